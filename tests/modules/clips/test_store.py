import multiprocessing
import os
import sys
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from PIL import Image

from data_gen.pack import main, pack
from modules.clips import store
from modules.clips.format import Clip, has_sound, has_stored_pncc, list_clips, person_of, write_speech
from modules.clips.store import StoreConfig, clip_folder, is_address, upload
from modules.system.errors import UserError
from tests.object_store import Requests, put_folder, s3_store
from tests.tasks.tiny_images import SIZE, write_tiny_clips

pytest.importorskip("fsspec", reason="the object store needs fsspec: pip install -r requirements-object-store.txt")
MEGABYTE = 10**6


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """A folder of shards of two clips each, five clips in all."""
    write_tiny_clips(tmp_path / "alone", clips=5, frames=6)
    pack(tmp_path / "alone", tmp_path / "shards", megabytes=0.05)
    assert len(list((tmp_path / "shards").glob("*.tar"))) > 1
    return tmp_path / "shards"


def config(tmp_path: Path, gigabytes: float = 1.0, attempts: int = 6) -> StoreConfig:
    return StoreConfig(cache=str(tmp_path / "cache"), gigabytes=gigabytes, attempts=attempts)


def stored(shards: Path, **limits: float) -> list[Path]:
    """The clips of the folder, read as a store."""
    return list_clips(clip_folder(shards.as_uri(), config(shards.parent, **limits)))


def kept(tmp_path: Path) -> dict[str, int]:
    """Files in the cache and their sizes."""
    return {"/".join(p.parts[-2:]): p.stat().st_size for p in (tmp_path / "cache").glob("*/shard-*/*/*/*")}


def same_content(first: Path, second: Path) -> None:
    for read in (
        lambda clip: clip.frames([4, 0]),
        lambda clip: clip.classes([1]),
        lambda clip: np.stack(list(clip.all_frames())),
        lambda clip: clip.landmarks,
        lambda clip: clip.background,
        lambda clip: clip.stored_pncc(SIZE),
        lambda clip: clip.face.expression,
    ):
        np.testing.assert_array_equal(read(Clip(first)), read(Clip(second)))


def test_clips_of_a_store_read_as_those_of_the_folder(shards, tmp_path):
    alone, clips = list_clips(tmp_path / "alone"), stored(shards)
    assert [clip.name for clip in clips] == [clip.name for clip in alone]
    for before, after in zip(alone, clips):
        same_content(before, after)
        assert person_of(before) == person_of(after) and has_sound(before) == has_sound(after)


def test_only_what_is_asked_for_is_read(shards, tmp_path):
    clips = stored(shards)
    assert [person_of(clip) for clip in clips] and not any(map(has_sound, clips)) and has_stored_pncc(clips[0], SIZE)
    assert kept(tmp_path) == {}
    Clip(clips[0]).frames([2])
    assert set(kept(tmp_path)) == {"clip_0/clip.npz", "clip_0/video.mp4"}


def test_what_was_used_last_stays_within_the_limit(shards, tmp_path):
    clips = stored(shards)
    for number, clip in enumerate(clips):
        Clip(clip)
        os.utime(next((tmp_path / "cache").glob(f"*/shard-*/*/{clip.name}/clip.npz")), (number, number))
    Clip(clips[0])  # now the last one that was used
    size = max(kept(tmp_path).values())
    Clip(stored(shards, gigabytes=3.5 * size / 1e9)[1]).classes([0])
    left = set(kept(tmp_path))
    assert "clip_0/clip.npz" in left and "clip_2/clip.npz" not in left and sum(kept(tmp_path).values()) <= 3.5 * size
    same_content(tmp_path / "alone" / "clip_2", stored(shards, gigabytes=0.001)[2])  # is read again


def test_a_file_larger_than_the_cache_is_one_line(shards):
    with pytest.raises(UserError, match="raise data.store.gigabytes"):
        Clip(stored(shards, gigabytes=1e-9)[0])


def _read_all(folder: Path, rounds: int, failures) -> None:
    clips = list_clips(folder)
    for number in range(rounds):
        for clip in clips if number % 2 else reversed(clips):
            if len(Clip(clip).frames([0, 5])) != 2 or Clip(clip).background.shape != (SIZE, SIZE, 3):
                failures.value += 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked")
def test_two_processes_share_a_cache_that_holds_half_of_what_they_read(shards, tmp_path):
    """Each deletes files that the other is about to open; both read everything, and the limit holds."""
    for clip in stored(shards):
        Clip(clip).frames([0])
        assert Clip(clip).background is not None
    all_files = kept(tmp_path)
    limit = sum(all_files.values()) / 2
    folder = clip_folder(shards.as_uri(), config(tmp_path, gigabytes=limit / 1e9))
    context = multiprocessing.get_context("fork")
    failures = context.Value("i", 0)
    processes = [context.Process(target=_read_all, args=(folder, 20, failures)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0] and failures.value == 0
    assert sum(kept(tmp_path).values()) <= limit + 2 * max(all_files.values())


def test_a_replaced_shard_is_read_anew(shards, tmp_path):
    first = Clip(stored(shards)[0]).background
    noise = np.random.default_rng(3).integers(0, 255, (SIZE, SIZE, 3), np.uint8)  # a larger file: all others move
    Image.fromarray(noise).save(tmp_path / "alone" / "clip_0" / "background.png")
    for path in shards.iterdir():
        path.unlink()
    pack(tmp_path / "alone", shards, megabytes=0.05)
    assert not np.array_equal(first, noise)
    np.testing.assert_array_equal(Clip(stored(shards)[0]).background, noise)
    same_content(tmp_path / "alone" / "clip_0", stored(shards)[0])


def test_an_answer_that_is_too_short_is_a_failure(shards, tmp_path, monkeypatch):
    clips, pauses = stored(shards, attempts=3), []
    monkeypatch.setattr(store.time, "sleep", pauses.append)
    for archive in shards.glob("*.tar"):
        os.truncate(archive, 100)
    with pytest.raises(UserError, match="bytes came instead of .*, 3 times"):
        Clip(clips[0])
    assert len(pauses) == 2 and kept(tmp_path) == {}


def test_new_shards_are_listed_and_unfinished_ones_are_not(shards, tmp_path):
    last = sorted(shards.glob("*.json"))[-1]
    content = last.read_bytes()
    last.unlink()
    fewer = {clip.name for clip in stored(shards)}
    last.write_bytes(content)
    assert fewer < {clip.name for clip in stored(shards)}


def test_clips_of_a_store_cannot_be_changed(shards, tmp_path):
    clip = stored(shards)[0]
    with pytest.raises(OSError, match="in the shard"):
        write_speech(clip, "mel", None)
    assert kept(tmp_path) == {} and not (clip.parent).exists()


def test_bad_addresses_are_one_line(tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    for address in (empty.as_uri(), (tmp_path / "nowhere").as_uri()):
        with pytest.raises(UserError, match="no shards in .*data_gen.pack CLIPS"):
            clip_folder(address, config(tmp_path))
    with pytest.raises(UserError, match="no address of a store|needs a package"):
        clip_folder("carrier-pigeon://loft", config(tmp_path))
    assert clip_folder("data/own", config(tmp_path)) == Path("data/own") and not is_address("data/own")
    for wrong in ({"gigabytes": 0}, {"attempts": 0}):
        with pytest.raises(ValueError, match="gigabytes is"):
            StoreConfig(**wrong)


def test_a_damaged_list_is_one_line(shards):
    folder = clip_folder(shards.as_uri(), config(shards.parent))
    (folder / "store.json").write_text("{")
    with pytest.raises(UserError, match="start again"):
        list_clips(folder)
    assert len(stored(shards)) == 5  # which mends it


def test_a_cache_that_cannot_be_written_is_one_line(shards, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written .*data.store.cache"):
        clip_folder(shards.as_uri(), StoreConfig(cache=str(tmp_path / "file")))


def test_pauses_grow_and_final_answers_are_not_asked_again(monkeypatch):
    pauses, asked = [], []
    monkeypatch.setattr(store.time, "sleep", pauses.append)

    def fail(error: Exception) -> None:
        asked.append(error)
        raise error

    with pytest.raises(UserError, match="wrong weather, 5 times"):
        store._tried(partial(fail, OSError("wrong weather")), 5)
    assert len(asked) == 5 and all(low <= p <= 2 * low for p, low in zip(pauses, (0.25, 0.5, 1.0, 2.0)))
    for error in (PermissionError("not you"), FileNotFoundError("nothing")):
        asked.clear()
        with pytest.raises(UserError, match=str(error)):
            store._tried(partial(fail, error), 5)
        assert len(asked) == 1


@pytest.fixture
def requests() -> Requests:
    return Requests()


@pytest.fixture
def bucket(monkeypatch, requests):
    """The address of an empty bucket of moto's server; the requests that it gets are counted and may fail."""
    for name in ("s3fs", "moto", "flask_cors"):
        pytest.importorskip(name, reason=f"{name} is not installed: pip install -r requirements-object-store.txt")
    monkeypatch.setattr(store, "FIRST_PAUSE", 0.02)
    with s3_store(monkeypatch, requests) as address:
        yield address


@pytest.mark.parametrize("cut", [False, True])
def test_a_bucket_that_fails_every_tenth_request_reads_as_the_folder(shards, tmp_path, bucket, requests, cut):
    put_folder(shards, bucket)
    requests.fail_every, requests.cut = 10, cut
    clips = list_clips(clip_folder(bucket, config(tmp_path)))
    for before, after in zip(list_clips(tmp_path / "alone"), clips):
        same_content(before, after)
    assert len(clips) == 5 and requests.failed > 1
    assert any("bytes=" in request for request in requests.seen)


def test_all_clips_are_told_apart_by_the_list_and_the_indexes(shards, tmp_path, bucket, requests):
    put_folder(shards, bucket)
    requests.seen.clear()
    clips = list_clips(clip_folder(bucket, config(tmp_path)))
    assert len({person_of(clip) for clip in clips}) == 5 and not any(map(has_sound, clips))
    assert not any(".tar" in request for request in requests.seen)
    count = len(requests.seen)
    list_clips(clip_folder(bucket, config(tmp_path)))
    assert len(requests.seen) - count < count  # indexes that are here already are not read again


def test_clips_are_packed_into_a_bucket_and_a_stopped_run_goes_on(tmp_path, bucket, requests, monkeypatch, capsys):
    write_tiny_clips(tmp_path / "alone", clips=3, frames=6)
    requests.fail_every = 10
    assert main([str(tmp_path / "alone"), bucket, "--megabytes", "0.001"]) == 0
    assert "3 clips in 3 shards" in capsys.readouterr().out
    write_tiny_clips(tmp_path / "alone", clips=4, frames=6)
    assert pack(tmp_path / "alone", bucket) == (4, 4, 0)
    clips = list_clips(clip_folder(bucket, config(tmp_path)))
    for before, after in zip(list_clips(tmp_path / "alone"), clips):
        same_content(before, after)


def test_what_a_bucket_refuses_is_one_line(tmp_path, bucket, monkeypatch, capsys):
    write_tiny_clips(tmp_path / "alone", clips=1, frames=6)
    with pytest.raises(UserError, match="no shards in"):
        clip_folder(bucket, config(tmp_path))
    assert main([str(tmp_path / "alone"), "s3://nobodys-bucket/own"]) == 2
    assert "could not be written" in capsys.readouterr().err
    upload(tmp_path / "alone" / "clip_0" / "video.mp4", bucket, attempts=1)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")  # nobody listens there
    sys.modules["s3fs"].S3FileSystem.clear_instance_cache()
    with pytest.raises(UserError, match="could not be read .*AWS_ENDPOINT_URL"):
        clip_folder(bucket, config(tmp_path, attempts=1))


def test_a_folder_of_a_web_server_is_a_store(shards, tmp_path):
    pytest.importorskip("aiohttp", reason="stores over HTTP need aiohttp: pip install -r requirements-object-store.txt")

    class Parts(SimpleHTTPRequestHandler):
        parts = True

        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            asked = self.headers.get("Range")
            if not (asked and self.parts):
                return super().do_GET()
            first, last = map(int, asked.removeprefix("bytes=").split("-"))
            content = Path(self.translate_path(self.path)).read_bytes()[first : last + 1]
            self.send_response(206)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Parts, directory=shards))
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        clips = list_clips(clip_folder(f"http://127.0.0.1:{server.server_port}/", config(tmp_path)))
        same_content(tmp_path / "alone" / "clip_3", clips[3])
        Parts.parts = False
        with pytest.raises(UserError, match="knows Range"):
            Clip(clips[2])
    finally:
        server.shutdown()
