"""The episodic bank: keyframes in RAM, or durable as Zarr on Icechunk.

How pixels are kept was measured by ``benchmarks/codecs.py`` on 40 frames each of a 640x480 Kinect walk and of a 540x360
HoloLens walk (kB; ms are the 10th percentile at 640x480 on two busy cores; the worst frame of both):

====================================  =========  =========  =========  ==========
colour                                kB         encode ms  decode ms  worst PSNR
====================================  =========  =========  =========  ==========
**JPEG 95, 4:4:4**                    94 / 69    2.1        2.4        43.2 dB
JPEG 92, 4:4:4                        74 / 52    2.1        2.2        41.4 dB
JPEG 95, 4:2:0                        73 / 56    1.3        1.8        40.8 dB
WebP 95                               63 / 43    20         9          41.4 dB
WebP lossless                         304 / 191  26         10         lossless
PNG, level 1                          426 / 267  47         18         lossless
====================================  =========  =========  =========  ==========

====================================  =========  =========  =========  ==========
depth                                 kB         encode ms  decode ms  worst error
====================================  =========  =========  =========  ==========
**9 bits of mantissa, differences**   75 / 38    2.1        1.1        0.096 %
the same without differences          135 / 83   2.9        1.5        0.096 %
0.2 % steps of the logarithm, zstd    87 / 49    3.9        3.2        0.100 %
the same as PNG16                     101 / 57   11         6.4        0.100 %
float16, Blosc with bit shuffle       137 / 101  3.2        1.0        0.048 %
float32, Blosc with bit shuffle       355 / 273  4.9        2.0        lossless
====================================  =========  =========  =========  ==========

Chroma stays at full resolution because halving it costs 2.4 dB where the camera did not halve it before. Rounding the
mantissa needs no logarithm, so that every machine decodes the same bits.

The codecs are ours to call, not Zarr codecs: Zarr sees bytes, with its own Zstandard and crc32c around them. A codec
registered with Zarr would make files that nobody opens without spmem; here any Zarr library gives the JPEG file of a
keyframe, and a few lines of NumPy its depth, as the attributes of the group describe.
"""
