"""The user study of the paper: people score blinded, shuffled videos from 1 to 5 for identity, quality and lip sync.

`write_study` makes one HTML page that opens from disk. Who made which video stands in a key beside it, which the people
do not get; the page has random tokens alone. Each person downloads a JSON; `study_table` makes Table 3 of them.
"""

import base64
import hashlib
import html
import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from modules.metrics.bootstrap import Interval, mean_interval
from modules.system.errors import UserError
from modules.system.files import named_file
from tasks.evaluation.pictures import moments
from tasks.evaluation.report import picture_source
from tasks.evaluation.results import video_path
from tasks.evaluation.tables import cell

QUESTIONS = {"identity": "Same person as in the photo", "quality": "Picture quality", "sync": "Lips fit the speech"}
SCORES = (1, 2, 3, 4, 5)
KEY, PAGE, TABLE = "study_key.json", "study.html", "table3.json"
FORMAT = "real3d-study"

STUDY_STYLE = (
    "body{font:15px sans-serif;margin:2em auto;max-width:1500px}section{border-top:1px solid #aaa;padding:1em 0}"
    ".row{display:flex;flex-wrap:wrap;gap:14px}video,img{width:300px}label{margin-right:6px}"
)
SCRIPT = """
function collect(){const s={};let open=0;
document.querySelectorAll('fieldset').forEach(f=>{const c=f.querySelector('input:checked');if(!c){open++;return}
(s[f.dataset.token]=s[f.dataset.token]||{})[f.dataset.question]=+c.value});
if(open&&!confirm(open+' questions have no answer. Download all the same?'))return;
const who=document.getElementById('who').value;
const text=JSON.stringify({format:FORMAT,study:STUDY,person:who,scores:s},null,1);
const a=document.createElement('a');a.href=URL.createObjectURL(new Blob([text],{type:'application/json'}));
a.download='scores_'+(who||'somebody').replace(/[^\\w-]/g,'_')+'.json';a.click()}
"""


def write_study(output: Path, methods: Sequence[str], cases: Sequence[str], seed: int) -> Path:
    """The page and its key, into the output folder; the path of the page.

    Args:
        methods: names of the table; videos that were not kept are left out.
        cases: the kept ones.
        seed: of the order of cases and videos, and of the tokens.
    Raises:
        UserError: no case has two videos, or a file cannot be written.
    """
    generator = torch.Generator().manual_seed(seed)
    key: dict[str, dict[str, str]] = {}
    sections = []
    study = hashlib.sha256(repr((seed, list(methods), list(cases))).encode()).hexdigest()[:10]
    for number in torch.randperm(len(cases), generator=generator).tolist():
        case = cases[number]
        present = [method for method in methods if video_path(output, method, case).is_file()]
        if len(present) < 2:
            continue
        videos = []
        for place in torch.randperm(len(present), generator=generator).tolist():
            token = f"{int(torch.randint(2**62, (), generator=generator)):016x}"
            key[token] = {"method": present[place], "case": case}
            videos.append(_video(video_path(output, present[place], case), token, len(videos)))
        photo = picture_source_of(video_path(output, "still", case))
        sections.append(
            f"<section><h2>{len(sections) + 1}</h2><div class='row'>{photo}{''.join(videos)}</div></section>"
        )
    if not sections:
        raise UserError("a study needs kept videos of at least two methods in one case; raise keep and run again")
    script = f"const FORMAT={json.dumps(FORMAT)},STUDY={json.dumps(study)};{SCRIPT}"
    page = (
        f"<!DOCTYPE html><html><head><meta charset='utf-8'><title>Study</title><style>{STUDY_STYLE}</style>"
        f"<script>{script}</script></head><body><h1>Talking portraits</h1><p>Watch each video with sound and score it, "
        "1 bad to 5 excellent. Videos of a row show the same photo; their order is random.</p>"
        f"<p>Your name or number: <input id='who'></p>{''.join(sections)}"
        "<p><button onclick='collect()'>Download my scores</button></p></body></html>\n"
    )
    _write(output / KEY, json.dumps({"format": FORMAT, "study": study, "videos": key}, indent=1))
    _write(output / PAGE, page)
    return output / PAGE


def read_scores(folder: Path, key: dict[str, Any]) -> tuple[list[dict[str, dict[str, int]]], list[str]]:
    """Scores of each person (token -> question -> score), and what was wrong with files that are left out.

    Raises:
        UserError: no folder, or no file of this study in it.
    """
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}; collect the JSON files of the study in one")
    people, notes = [], []
    for path in sorted(folder.glob("*.json")):
        if path.name in (KEY, TABLE):
            continue
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content["format"] != FORMAT or content["study"] != key["study"]:
                raise ValueError("of another study")
            people.append(_checked(content["scores"], key["videos"]))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            notes.append(f"{path.name} is left out: {error}")
    if not people:
        raise UserError(f"no scores of this study in {folder}" + (f" ({notes[0]})" if notes else ""))
    return people, notes


def study_table(
    people: Sequence[dict[str, dict[str, int]]], videos: dict[str, dict[str, str]], seed: int
) -> dict[str, dict[str, Interval]]:
    """method -> question -> mean opinion score with its 95 % interval over people.

    A person's scores of a method are averaged first, so that everybody counts the same.
    """
    methods = list(dict.fromkeys(video["method"] for video in videos.values()))
    table: dict[str, dict[str, Interval]] = {method: {} for method in sorted(methods)}
    for question in QUESTIONS:
        means: dict[str, list[float]] = defaultdict(list)
        for scores in people:
            own: dict[str, list[int]] = defaultdict(list)
            for token, answers in scores.items():
                if question in answers:
                    own[videos[token]["method"]].append(answers[question])
            for method, given in own.items():
                means[method].append(sum(given) / len(given))
        for method in table:
            table[method][question] = mean_interval(means[method], torch.Generator().manual_seed(seed))
    return table


def study_results(folder: Path, seed: int = 0) -> str:
    """Table 3 of the files in a folder, written there as table3.json and table3.md; the text to print.

    The key, study_key.json, is looked for in the folder and in the one that it lies in.

    Raises:
        UserError: no key, or no scores.
    """
    places = [folder / KEY, folder.resolve().parent / KEY]
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        raise UserError(f"there is no {KEY} in {folder} or above it; copy it there from the output of --study")
    try:
        key = json.loads(path.read_text(encoding="utf-8"))
        videos = {str(token): dict(video) for token, video in key["videos"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is no key of a study ({error}); take it from the output of --study") from error
    people, notes = read_scores(folder, key)
    table = study_table(people, videos, seed)
    lines = ["| method | " + " | ".join(QUESTIONS) + " |", "| --- |" + " --- |" * len(QUESTIONS)]
    lines += [
        f"| {method} | " + " | ".join(cell(row[name]) for name in QUESTIONS) + " |" for method, row in table.items()
    ]
    lines += ["", f"Mean opinion scores, 1 to 5, of {len(people)} people; 95 % intervals over people.", *notes]
    plain = {
        method: {name: {"mean": x.mean, "low": x.low, "high": x.high} for name, x in row.items()}
        for method, row in table.items()
    }
    text = "\n".join(lines)
    _write(folder / "table3.md", text + "\n")
    _write(folder / TABLE, json.dumps(plain, indent=1))
    return text


def picture_source_of(video: Path) -> str:
    """The photo of a case as an <img>: any frame of the still baseline's video; nothing if there is none."""
    if not video.is_file():
        return ""
    return f"<div><img alt='photo' src='{picture_source(Image.fromarray(moments(video)[0]))}'><p>photo</p></div>"


def _video(path: Path, token: str, place: int) -> str:
    source = "data:video/mp4;base64," + base64.b64encode(path.read_bytes()).decode()
    questions = []
    for question, words in QUESTIONS.items():
        buttons = "".join(
            f"<label><input type='radio' name='{token}-{question}' value='{score}'>{score}</label>" for score in SCORES
        )
        legend = f"<legend>{html.escape(words)}</legend>"
        questions.append(f"<fieldset data-token='{token}' data-question='{question}'>{legend}{buttons}</fieldset>")
    title = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[place % 26]
    return f"<div><video controls preload='metadata' src='{source}'></video><p>{title}</p>{''.join(questions)}</div>"


def _checked(scores: dict[str, dict[str, int]], videos: dict[str, Any]) -> dict[str, dict[str, int]]:
    for token, answers in scores.items():
        if token not in videos:
            raise ValueError("it scores a video that is not in the key")
        for question, score in answers.items():
            if question not in QUESTIONS or score not in SCORES or isinstance(score, bool):
                raise ValueError(f"{question} is {score}; scores are 1 to 5")
    return scores


def _write(path: Path, text: str) -> None:
    with named_file(path) as part:
        part.write_text(text, encoding="utf-8")
