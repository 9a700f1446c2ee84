"""A generator that notes what it is given: for tests of loops, of adapters, and of what a memory hands over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from spmem.camera import Camera
from spmem.generating import Generated, GeneratorSpec, spec_of
from spmem.protocols import Generator
from spmem.types import Retrieval


@dataclass(frozen=True, eq=False)
class Call:
    """One chunk, as a generator got it.

    context, prompt: What ``condition`` was given.
    cameras: What ``generate`` was asked for, added ones included.
    given: Its keywords: ``seed``, and ``state`` and ``callback`` where the spec wants them.
    made: What was returned, as the spec says: not yet brought to ``[T, H, W, 3]``.
    """

    context: Retrieval
    prompt: str | None
    cameras: Camera
    given: dict[str, Any]
    made: Generated


class Recorder:
    """Notes every call in ``calls``; passes it on to a generator, or shows the projection itself.

    Around an adapter it shows what reaches that and what comes back. Alone it obeys any spec (frame counts, echoed frames,
    layout, range of values, state, callback), so that a loop can be tested against rules of models that are not there.

    Args:
        generator: What to pass the calls on to. None: frames are the projection, black where memory covers nothing;
            echoed ones are those of ``context.recent``; ``state`` is the number of calls so far; the callback is called once.
        spec: Whose rules to obey without a generator; with one its own are taken.

    Example:
        >>> import spmem
        >>> from spmem.testing.room_memory import RoomMemory
        >>> recorder, memory = Recorder(spec=spmem.GeneratorSpec(frames=spmem.FrameCount(4, 1))), RoomMemory()
        >>> for chunk in spmem.rollout(recorder, memory, memory.room.walk(7, width=64, height=48), chunk=4):
        ...     print(len(chunk.frames), "of", len(recorder.calls[-1].cameras))
        4 of 5
        3 of 5
    """

    def __init__(
        self, generator: Generator | None = None, *, spec: GeneratorSpec | None = None
    ) -> None:
        self.generator = generator
        self.spec = spec_of(generator) if generator is not None else spec or GeneratorSpec()
        self.calls: list[Call] = []

    @property
    def contexts(self) -> list[Retrieval]:
        """What memory said before each chunk."""
        return [call.context for call in self.calls]

    def condition(
        self, context: Retrieval, prompt: str | None = None
    ) -> tuple[Retrieval, str | None, Any]:
        """Both, and what the generator makes of them."""
        inner = None if self.generator is None else self.generator.condition(context, prompt)
        return context, prompt, inner

    def generate(
        self,
        conditioning: tuple[Retrieval, str | None, Any],
        cameras: Camera,
        *,
        seed: int = 0,
        **more: Any,
    ) -> Generated:
        """What the generator makes, or the projection as the spec says."""
        context, prompt, inner = conditioning
        if self.generator is None:
            made = self._echo_projection(context, **more)
        else:
            answer: Any = self.generator.generate(inner, cameras, seed=seed, **more)
            made = answer if isinstance(answer, Generated) else Generated(answer)
        self.calls.append(Call(context, prompt, cameras, {"seed": seed, **more}, made))
        return made

    def _echo_projection(
        self, context: Retrieval, *, state: Any = None, callback: Any = None
    ) -> Generated:
        rgb: Tensor = context.projection.rgb * context.projection.mask[..., None]
        if echoed := self.spec.echoes(len(context.recent)):
            last = [frame.rgb_float() for frame in context.recent[-echoed:]]
            rgb = torch.cat([torch.stack(last), rgb])
        low, high = self.spec.value_range
        rgb = low + (high - low) * rgb
        if self.spec.callback and callback is not None:
            changed = callback(0, 1, rgb)
            rgb = rgb if changed is None else changed
        return Generated(
            rgb.movedim(-1, self.spec.layout.index("C")),
            state=len(self.calls) + 1 if self.spec.state else None,
        )
