"""The page of records has every record once, with the command that repeats it and what it was made on."""

import re
import shlex

import pytest
from click.testing import CliRunner
from helpers import bench, changed, record

from sba.cli.commands import main
from sba.records.file import book_folder, read
from sba.records.schema import parse
from sba.report import listings


def full(error, *arguments, **options):
    return changed(record(error, *arguments, **options), error_last=error + 0.1, threads=2, source="abc")


RECORDS = [
    *(full(e, "erm", s) for s, e in enumerate([23.0, 23.4, 23.1])),
    full(22.0, "sba", 0, eta=0.01, folds=32),
    full(21.0, "erm", 1, cutout=16),
    full(60.0, "erm", 0, epochs=5),
    full(1.0, "erm", 0, holdout=5000),
    changed(full(2.0, "sba", 0, eta=3.0), study="fig2"),
]


def rows_of(html):
    rows = [re.findall(r"<td.*?>(.*?)</td>", row) for row in re.findall(r"<tr>(.*?)</tr>", html)]
    return [row for row in rows if row]


def parts(html):
    """Summary of each folded table, and its rows."""
    return {
        re.search("<b>(.*?)</b>", part)[1]: (re.search(r"\((\d+) records\)", part)[1], rows_of(part))
        for part in html.split("<details")[1:]
    }


def test_runs_that_were_made_alike_share_a_row_and_each_keeps_its_record():
    found = parts(listings.provenance_html(RECORDS))
    assert {name: int(count) for name, (count, _) in found.items()} == {
        listings.TABLES: 6,
        listings.SHORT: 1,
        "fig2": 1,
    }
    first = found[listings.TABLES][1][0]
    assert first[:2] == ['<span class="wrapped">Baseline</span>', "164"]
    assert re.sub("<.*?>", "", first[2].replace("<br>", "|")) == "|".join(
        f"seed {r.seed}: {r.error:.2f} ({r.error + 0.1:.2f}) {r.id}" for r in RECORDS[:3]
    )
    assert found[listings.SHORT][1][0][1] == "5 of 164"


def test_runs_of_other_machines_code_or_data_stand_in_rows_of_their_own():
    for change in ({"device_name": "a card"}, {"source": "def"}, {"fingerprint": "g"}, {"jobs": 6}, {"threads": 1}):
        rows = rows_of(listings.runs_html([RECORDS[0], changed(RECORDS[1], **change)]))
        assert len(rows) == 4, change
    assert len(rows_of(listings.runs_html(RECORDS[:2]))) == 2


def test_runs_stand_under_their_network_and_data():
    html = listings.runs_html([*RECORDS[:5], full(7.0, "erm", 0, network="resnet44")])
    assert re.findall(r'<th scope="rowgroup".*?>(.*?)</th>', html) == ["AlexNet on CIFAR-10", "ResNet-44 on CIFAR-10"]


def test_under_each_row_stands_a_command_that_runs_it(monkeypatch):
    made = []
    monkeypatch.setattr("sba.cli.commands.train_once", lambda run, *_, **__: made.append(run) or ("", 0))
    for row in rows_of(listings.runs_html(RECORDS))[1::2]:
        words = shlex.split(re.findall(r"<code>(.*?)</code>", row[0])[0])
        assert words[:4] == ["python", "-m", "sba", "train"]
        assert CliRunner().invoke(main, words[3:]).exit_code == 0
    assert [r.settings() for r in made] == [RECORDS[i].settings for i in (5, 0, 6, 4, 3, 7)]


@pytest.mark.parametrize(
    "what", ["a processor, 2 thread(s)", "torch 9.9", "source abc", "data f", "2026-01-01", "x.jsonl, 7"]
)
def test_it_says_on_what_the_runs_were_made(what):
    assert what in rows_of(listings.runs_html([changed(RECORDS[0], file="x.jsonl", line=7)]))[1][0]


def test_runs_that_shared_a_machine_say_so():
    said = {6: "beside 5 others", 2: "beside 1 other", 1: "alone", None: "neighbours not recorded"}
    for jobs, words in said.items():
        assert f"a processor, 2 thread(s), {words};" in listings.runs_html([changed(full(7.0), jobs=jobs)])


def test_a_run_that_diverged_is_listed_without_an_error():
    lost = parse(RECORDS[0].as_json() | {"kind": "diverged", "reason": "step 3"})
    assert "seed 0: diverged <span" in listings.provenance_html([lost])


def test_a_benchmark_stands_with_its_range_and_its_machine():
    timed = changed(bench("attach over the chain"), id="def", file="x.jsonl", line=7)
    ((count, rows),) = parts(listings.provenance_html([timed])).values()
    assert count == "1" and rows[0][2:4] == [f"{timed.value:.3f}", f"{timed.low:.3f} … {timed.high:.3f}"]
    assert "attach over the chain" in rows[0][1] and "x.jsonl, 7" in rows[1][0]


def test_without_records_nothing_is_listed():
    assert listings.provenance_html([]) == ""


def test_every_record_of_the_book_is_listed_once_where_its_link_leads():
    found = read(book_folder())
    listed = re.findall(r'id="record-(\w+)"', listings.provenance_html(found))
    assert sorted(listed) == sorted(r.id for r in found)
