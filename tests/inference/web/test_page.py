"""The page in a real Chromium: upload, talk, cancel, wrong files, two tabs; and what its files may say."""

import base64
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("uvicorn", reason="pip install -c constraints.txt -r requirements-serve.txt")

import inference.web.page as page
from inference.web.messages import MP4, header
from modules.media.fragment_writer import FragmentWriter
from tests.inference.web.conftest import served, wait_for

FOLDER = Path(page.__file__).parent / "page"
FILES = sorted(FOLDER.iterdir())
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")


# ---- its files


def test_every_file_is_served_with_its_kind_and_a_policy_that_lets_nothing_else_in(server):
    assert {path.suffix for path in FILES} == {".html", ".js", ".css", ".svg"}
    for path in FILES:
        answer = server.ask("GET", f"/page/{path.name}")
        assert answer.text == path.read_text() and "charset=utf-8" in answer.headers["content-type"]
        assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert server.ask("GET", "/").text == (FOLDER / "index.html").read_text()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_nothing_comes_from_another_site(path):
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", path.read_text())


def test_every_control_has_a_label_and_every_name_that_scripts_use_exists():
    html = (FOLDER / "index.html").read_text()
    names = re.findall(r'id="([\w-]+)"', html)
    assert len(names) == len(set(names))
    for tag, attributes in re.findall(r"<(input|select|progress)\b([^>]*)>", html):
        name = re.search(r'id="([\w-]+)"', attributes)
        labelled = "aria-label" in attributes or 'type="radio"' in attributes or 'id="hear"' in attributes
        assert labelled or f'for="{name[1]}"' in html, f"{tag} {attributes}"
    used = set(re.findall(r'(?:\$|show|complain)\("([\w-]+)"', (FOLDER / "page.js").read_text()))
    assert used <= set(names) and len(used) > 25


def test_a_link_with_the_token_sets_a_cookie_and_hides_it(pipeline):
    token = "a-token-of-some-length"  # noqa: S105 (made up)
    with served(pipeline, token=token) as server:
        assert server.ask("GET", "/").status_code == 401
        answer = server.ask("GET", f"/?token={token}", allow_redirects=False)
        assert answer.status_code == 303 and answer.headers["location"] == "/"
        assert re.search("HttpOnly.*SameSite=strict", answer.headers["set-cookie"])
        assert server.ask("GET", f"/?token={token}").status_code == 200  # with the cookie, by the redirection


# ---- in a browser


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    webdriver = pytest.importorskip("selenium.webdriver", reason="pip install -r requirements-serve.txt")
    if not CHROMIUM or not DRIVER:
        pytest.skip("no chromium and chromedriver; apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--use-fake-ui-for-media-stream",  # the microphone is a beep, the camera a pattern, and both are allowed
        "--use-fake-device-for-media-stream",
        "--autoplay-policy=no-user-gesture-required",
        f"--user-data-dir={tmp_path_factory.mktemp('chromium')}",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    driver.set_window_size(1280, 900)
    yield driver
    driver.quit()


class Tab:
    """A tab with the page."""

    def __init__(self, browser, server) -> None:
        self._browser = browser
        browser.switch_to.new_window("tab")
        self._handle = browser.current_window_handle
        browser.get(f"http://{server.address}/")
        wait_for(lambda: self.text("status") == "The face is ready.")

    def here(self) -> "Tab":
        self._browser.switch_to.window(self._handle)
        return self

    def of(self, name: str):
        return self._browser.find_element("id", name)

    def text(self, name: str) -> str:
        return self.of(name).text

    def choose(self, mode: str) -> None:
        self._browser.find_element("css selector", f"input[value={mode}] + span").click()

    def run(self, script: str) -> object:
        return self._browser.execute_script(script)

    def until(self, name: str, words: str) -> None:
        wait_for(lambda: words in self.text(name), 60)

    def close(self) -> None:
        self.here()
        self._browser.close()
        self._browser.switch_to.window(self._browser.window_handles[0])


@pytest.fixture
def tab(browser, server):
    opened = Tab(browser, server)
    browser.get_log("browser")
    yield opened
    lines = browser.get_log("browser")  # an answer of 4xx is an error to it, too
    errors = [line["message"] for line in lines if line["level"] == "SEVERE" and line["source"] != "network"]
    opened.close()
    assert errors == []
    state = server.state
    wait_for(
        lambda: not any(map(len, (state.portraits, state.media, state.sessions, state.videos.shelf, server.files())))
    )


def test_the_demo_speaks_after_one_click_and_is_painted_at_once(tab):
    paint = tab.run("return performance.getEntriesByName('first-contentful-paint')[0].startTime")
    assert paint < 2000  # milliseconds
    tab.of("seconds").find_element("xpath", "ancestor::details/summary").click()
    tab.of("seconds").send_keys("0.4")
    tab.of("go").click()
    tab.until("status", "The video is ready.")
    wait_for(lambda: tab.run("return document.getElementById('video').currentTime") > 0)
    assert tab.run("const v = document.getElementById('video'); return [v.videoWidth, v.duration]") == [64, 0.4]
    assert tab.of("video").is_displayed() and not tab.of("cancel").is_displayed()
    for name, start in (("save-motion", '{"format": "real3d-motion"'), ("save-curves", "frame,time,eyeBlinkLeft")):
        fetched = tab.run(f"return fetch(document.getElementById('{name}').href).then((answer) => answer.text())")
        assert fetched.startswith(start)


def test_a_photo_and_a_sound_are_uploaded_and_talk(tab, media, speech):
    tab.of("photo-file").send_keys(str(media / "portraits" / "front_suit_man.png"))
    tab.until("still-caption", "Photo")
    tab.choose("file")
    tab.of("speech-file").send_keys(str(speech))
    tab.until("speech-name", "Satz eins.wav, 0.4 s")
    tab.of("go").click()
    tab.until("status", "The video is ready.")
    assert tab.text("error") == tab.text("face-error") == tab.text("speech-error") == ""


def test_wrong_files_are_refused_in_words_beside_their_place(tab, tmp_path, speech):
    (tmp_path / "letter.txt").write_text("Dear photo")
    tab.of("photo-file").send_keys(str(tmp_path / "letter.txt"))
    tab.until("face-error", "The photo is no picture; send a JPEG, PNG, HEIC, AVIF or WebP file.")
    assert tab.of("go").is_enabled()  # the face before is kept
    tab.choose("file")
    tab.of("go").click()
    tab.until("speech-error", "Choose a file first.")
    tab.of("speech-file").send_keys(str(tmp_path / "letter.txt"))
    tab.until("speech-error", "The sound is no sound or video file")
    tab.choose("clip")
    assert tab.text("speech-error") == ""
    tab.of("clip-file").send_keys(str(speech))
    tab.until("speech-error", "This file has no moving pictures.")


def test_a_video_is_cancelled_and_another_can_be_made(tab, server):
    tab.of("go").click()
    tab.until("progress-text", "Frame")
    assert tab.of("cancel").is_displayed() and not tab.of("go").is_enabled()
    tab.of("cancel").click()
    tab.until("status", "Cancelled.")
    wait_for(lambda: tab.of("go").is_enabled() and not tab.of("progress").is_displayed())
    wait_for(lambda: server.state.videos_to_do() == 0)
    tab.of("go").click()
    tab.until("progress-text", "Frame")
    tab.of("cancel").click()


def test_two_tabs_work_side_by_side(tab, browser, server):
    other = Tab(browser, server)
    for one in (tab, other):
        one.here().run(
            "document.getElementById('seconds').value = 0.4; document.getElementById('form').requestSubmit()"
        )
    for one in (tab, other):
        one.here().until("status", "The video is ready.")
    sources = [one.here().of("save-video").get_attribute("href") for one in (tab, other)]
    assert sources[0] != sources[1]
    other.close()
    tab.here()
    wait_for(lambda: len(server.state.videos.shelf) == 1)
    assert tab.run("return fetch(document.getElementById('save-video').href).then((answer) => answer.ok)")


def test_the_portrait_speaks_with_the_microphone_as_a_stream_and_stops(tab, server):
    tab.choose("live")
    assert tab.text("go") == "Start talking"
    tab.of("go").click()
    tab.until("result-caption", "pictures a second")
    assert len(server.state.sessions) == 1
    facts = """const video = document.getElementById('stream'), end = video.buffered.length - 1;
        return {time: video.currentTime, ahead: end < 0 ? 0 : video.buffered.end(end) - video.currentTime,
                width: video.videoWidth, muted: video.muted, sound: video.webkitAudioDecodedByteCount,
                drawn: video.getVideoPlaybackQuality().totalVideoFrames, shown: !video.hidden}"""
    wait_for(lambda: tab.run(facts)["time"] > 1, 60)
    now = tab.run(facts)
    assert now["width"] == 64 and now["drawn"] > 10 and now["sound"] > 0 and now["shown"] and now["ahead"] < 2
    assert now["muted"] and not tab.of("canvas").is_displayed()
    tab.of("hear").click()
    wait_for(lambda: not tab.run(facts)["muted"])
    wait_for(lambda: tab.run(facts)["time"] > now["time"])  # it goes on with sound
    tab.of("cancel").click()
    tab.until("status", "The microphone is off.")
    wait_for(lambda: len(server.state.sessions) == 0 and server.state.waiting() == 0)
    assert tab.run("return document.getElementById('stream').error") is None


def test_without_media_source_it_speaks_in_pictures(tab, server):
    tab.run("window.MediaSource = undefined")
    tab.choose("live")
    tab.of("go").click()
    tab.until("result-caption", "pictures a second")
    drawn = """const canvas = document.getElementById('canvas');
        const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
        return [canvas.width, data.reduce((sum, value) => sum + value, 0)]"""
    first = tab.run(drawn)
    wait_for(lambda: tab.run(drawn)[1] != first[1])  # it moves
    assert first[0] == 64 and not tab.of("stream").is_displayed()
    tab.of("cancel").click()
    tab.until("status", "The microphone is off.")
    wait_for(lambda: len(server.state.sessions) == 0 and server.state.waiting() == 0)


def test_a_stream_that_does_not_play_is_told_and_pictures_come_the_next_time(tab):
    tab.run("MediaSource.prototype.addSourceBuffer = function () { throw new Error('broken'); }")
    tab.choose("live")
    tab.of("go").click()
    tab.until("error", "The browser cannot play the stream; start again to see pictures instead.")
    tab.of("go").click()
    tab.until("result-caption", "pictures a second")
    assert tab.of("canvas").is_displayed()
    tab.of("cancel").click()
    tab.until("status", "The microphone is off.")


# Plays a stream by the page's own player; notes when its white picture is seen and when its tone is heard, in seconds.
IN_STEP = """
const [parts, mime, done] = arguments;
const { StreamPlayer } = await import('/page/players.js');
const video = document.getElementById('stream'), canvas = document.createElement('canvas');
video.hidden = false;
const context = new AudioContext();
await context.audioWorklet.addModule('/page/microphone.js');
const heard = [], seen = [];
const node = new AudioWorkletNode(context, 'microphone', { numberOfOutputs: 0 });
context.createMediaElementSource(video).connect(node);
node.port.onmessage = ({ data }) => {
  if (Math.max(...data) > 0.2) heard.push(performance.now() / 1000 - 512 / context.sampleRate);
};
const player = new StreamPlayer(video);
player.ready({ mime }, (line) => done({ line }));
player.hearMyself(true);
canvas.width = canvas.height = 8;
const look = () => {
  const pen = canvas.getContext('2d');
  pen.drawImage(video, 0, 0, 8, 8);
  if (pen.getImageData(4, 4, 1, 1).data[0] > 128) seen.push(performance.now() / 1000);
  if (heard.length && seen.length) setTimeout(() => { player.close(); context.close(); done({ seen, heard }); }, 300);
  else requestAnimationFrame(look);
};
look();
for (const part of parts) {
  player.take(Uint8Array.from(atob(part), (letter) => letter.charCodeAt(0)).buffer);
  await new Promise((resolve) => setTimeout(resolve, 120));
}
"""


def test_voice_and_picture_of_the_stream_are_in_step(tab, browser):
    """A white picture and a tone at the same time of the stream are seen and heard together, within a tenth."""
    rate, group = 16_000, 4
    writer, parts, times = FragmentWriter((64, 64), rate), [], np.arange(16_000 * 4) / 16_000
    tone = np.where((times >= 2) & (times < 2.2), 0.8 * np.sin(2 * np.pi * 500 * times), 0).astype(np.float32)
    for first in range(0, 100, group):
        shades = [np.full((64, 64, 3), 255 * (50 <= first + k < 55), np.uint8) for k in range(group)]
        data = writer.write(shades, tone[first * 640 : (first + group) * 640])
        parts.append(base64.b64encode(header(MP4, first) + data).decode())
    parts.append(base64.b64encode(header(MP4, 100) + writer.finish()).decode())
    browser.set_script_timeout(60)
    found = browser.execute_async_script(f"(async (...arguments) => {{{IN_STEP}}})(...arguments)", parts, writer.mime)
    assert abs(found["seen"][0] - found["heard"][0]) < 0.1, found


def test_speech_is_recorded_and_a_photo_taken(tab):
    tab.choose("record")
    tab.of("record").click()
    tab.until("record-time", "1 s")
    tab.of("record").click()
    tab.until("record-time", "Recording, ")
    tab.of("go").click()
    tab.until("status", "The video is ready.")
    tab.of("camera").click()
    wait_for(lambda: tab.run("return document.getElementById('camera-picture').videoWidth") > 0)
    tab.of("shoot").click()
    tab.until("face-error", "No face found in the photo")  # the pattern of the false camera has none


def test_it_fits_a_phone_and_works_by_keyboard(tab, browser):
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    )
    try:
        assert tab.run("return document.documentElement.scrollWidth") == 390
        from selenium.webdriver.common.action_chains import ActionChains
        from selenium.webdriver.common.keys import Keys

        visited = []
        for _ in range(7):
            ActionChains(browser).send_keys(Keys.TAB).perform()
            visited.append(tab.run("const at = document.activeElement; return at.id || at.value || at.textContent"))
        assert visited == ["Skip to the result", "photo-file", "camera", "person", "demo", "Options", "go"]
        ActionChains(browser).send_keys(Keys.ENTER).perform()
        tab.until("progress-text", "Frame")
        assert 0 <= tab.run("return document.getElementById('cancel').getBoundingClientRect().top") < 844
        tab.of("cancel").click()
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_a_server_that_is_gone_is_told_in_words(browser, pipeline):
    with served(pipeline) as server:
        tab = Tab(browser, server)
    tab.of("go").click()
    tab.until("error", "The server does not answer. Is it still running?")
    assert tab.of("go").is_enabled() and not tab.of("cancel").is_displayed()
    tab.close()
