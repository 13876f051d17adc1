"""Files that are whole or absent, and places that one process has to itself."""

import errno
import fcntl
import os
import threading

import numpy as np
import pytest

from bipartition import files


def test_a_file_is_replaced_whole(tmp_path):
    path = tmp_path / "new" / "file.txt"
    files.write_text(path, "one")
    files.write_text(path, "two ä")
    assert path.read_text(encoding="utf-8") == "two ä" and [p.name for p in path.parent.iterdir()] == ["file.txt"]


def test_whoever_reads_meanwhile_reads_the_old_file_to_its_end(tmp_path):
    """The new file takes the old one's name in one go; written over it, a reader would find half of either."""
    path = tmp_path / "a.txt"
    files.write_text(path, "old\n" * 1000)
    with open(path, encoding="utf-8") as reader:
        assert reader.readline() == "old\n"
        files.write_text(path, "new\n")
        assert set(reader) == {"old\n"}
        reader.seek(0)
        assert reader.read() == "old\n" * 1000
    assert path.read_text(encoding="utf-8") == "new\n"


def test_an_error_while_writing_leaves_the_old_file_and_no_rest(tmp_path):
    path = tmp_path / "file.json"
    files.write_json(path, {"a": 1})
    with pytest.raises(RuntimeError), files.place(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert files.read_json(path) == {"a": 1} and len(list(tmp_path.iterdir())) == 1


def test_a_full_disk_is_named_with_the_file_and_the_way_out(tmp_path):
    with pytest.raises(OSError, match=r"cannot write .*file.npy.*free some space") as caught, \
            files.place(tmp_path / "file.npy"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert caught.value.errno == errno.ENOSPC and not list(tmp_path.iterdir())


def test_a_target_that_cannot_be_replaced_is_named(tmp_path):
    (tmp_path / "file.txt").mkdir()
    with pytest.raises(OSError, match="cannot write .*file.txt"):
        files.write_text(tmp_path / "file.txt", "text")
    assert [path.name for path in tmp_path.iterdir()] == ["file.txt"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_named(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(OSError, match="check the folder and its permissions"):
        files.write_text(tmp_path / "file.txt", "text")


def test_an_array_comes_back_equal(tmp_path):
    array = np.arange(6, dtype=np.uint8).reshape(2, 3)
    files.write_array(tmp_path / "a.npy", array)
    assert np.array_equal(np.load(tmp_path / "a.npy"), array)


def test_broken_json_is_named(tmp_path):
    for broken in (b"{", b'"\xe9"'):
        (tmp_path / "config.json").write_bytes(broken)
        with pytest.raises(ValueError, match="config.json is not readable as JSON.*delete it"):
            files.read_json(tmp_path / "config.json")


def test_a_file_where_a_folder_has_to_be_is_named_with_the_way_out(tmp_path):
    (tmp_path / "seed0").write_text("a file", encoding="utf-8")
    with pytest.raises(NotADirectoryError, match=r"cannot read .*seed0/config.json: Not a directory; .* BIPARTITION_RESULTS"):
        files.read_json(tmp_path / "seed0" / "config.json")
    with pytest.raises(NotADirectoryError, match="seed0 is a file, and has to be a folder; move it away"):
        files.sweep(tmp_path / "seed0")


def test_a_process_that_has_not_given_its_number_yet_is_waited_for_all_the_same(tmp_path, capsys):
    with open(tmp_path / ".run.lock", "w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        threading.Timer(1, other.close).start()
        with files.alone(tmp_path / "run"):
            assert other.closed
    assert f"another process is at work on {tmp_path / 'run'}: waiting" in capsys.readouterr().out


def test_a_file_system_without_locks_is_named_with_the_way_out(tmp_path, monkeypatch):
    def refused(*_):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(files.fcntl, "flock", refused)
    said = rf"{tmp_path} cannot be locked: Function not implemented; name .* BIPARTITION_RESULTS"
    with pytest.raises(OSError, match=said), files.alone(tmp_path / "work"):
        pass
