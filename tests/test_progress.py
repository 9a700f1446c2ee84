"""Progress bars."""

from spmem.progress import track


def test_progress_passes_everything_on_and_is_quiet_off_terminals(capfd):
    assert list(track(iter("abc"), "Storing")) == ["a", "b", "c"]
    assert capfd.readouterr() == ("", "")


def test_progress_shows_on_a_terminal(capfd, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert list(track([1, 2], "Storing frames")) == [1, 2]
    out, err = capfd.readouterr()
    assert out == ""
    assert "Storing frames" in err
