"""Tables of settings hold what the records say, and the command that repeats each."""

import re
import shlex

import pytest
from click.testing import CliRunner
from helpers import bench, changed, record
from scipy import stats

from sba.cli.commands import main
from sba.records.compare import indexed
from sba.records.file import book_folder, read
from sba.records.schema import TrainRecord
from sba.report import full_scale, listings
from sba.report.html import link
from sba.report.paper_figures import figure3
from sba.studies.paper_runs import FOLDS


def full(error, *arguments, **options):
    return changed(record(error, *arguments, **options), error_last=error + 0.1, threads=2, source="abc")


RECORDS = [
    *(full(e, "erm", s) for s, e in enumerate([23.0, 23.4, 23.1])),
    *(full(e, "sba", s, eta=0.01, folds=32) for s, e in enumerate([22.0, 22.9])),
    full(21.0, "erm", 1, cutout=16),
    full(20.5, "sba", 1, cutout=16, eta=0.01, folds=32),
    full(60.0, "erm", 0, epochs=5),
    full(50.0, "sba", 0, epochs=5),
    full(1.0, "erm", 0, holdout=5000),
    changed(full(2.0, "sba", 0, eta=3.0), study="fig2"),
]


def rows_of(html):
    rows = [re.findall(r"<td.*?>(.*?)</td>", row) for row in re.findall(r"<tr>(.*?)</tr>", html)]
    return [row for row in rows if row]


def test_a_setting_stands_with_its_difference_from_plain_training_at_equal_seeds():
    rows = rows_of(listings.settings_html(RECORDS))
    assert [re.sub("<.*?>", "", r[0]).split()[0] for r in rows[::2]] == ["Baseline", "Cutout", "SBA", "Cutout"]
    low, high = stats.ttest_rel([22.0, 22.9], [23.0, 23.4]).confidence_interval(0.95)
    half, (erm, cutout, sba, both) = (high - low) / 2, rows[::2]
    assert sba[3] == f"−0.75 ± {half:.2f} (paired t, n=2, r=1.00) minus Baseline"
    assert erm[3] == "—" and cutout[3] == "−2.40 (n=1) minus Baseline"
    # a composed method stands against the part that it adds to
    assert both[3] == "−0.50 (n=1) minus Cutout"
    assert cutout[1:3] == ["21.00 (n=1)", "21.10"]
    assert f"seed 0 {link(RECORDS[3].id)}, seed 1 {link(RECORDS[4].id)}; 164 epochs, 2.00 s per epoch on " in rows[5][0]


def test_settings_stand_under_their_network_and_data():
    html = listings.settings_html([*RECORDS, full(7.0, "erm", 0, network="resnet44")])
    assert re.findall(r'<th scope="rowgroup".*?>(.*?)</th>', html) == ["AlexNet on CIFAR-10", "ResNet-44 on CIFAR-10"]


def test_shortened_runs_are_compared_among_themselves():
    rows = rows_of(listings.settings_html(RECORDS, reduced=True))
    assert all("5 of 164 epochs" in row[0] for row in rows[1::2])
    rows = rows[::2]
    assert [r[1] for r in rows] == ["60.00 (n=1)", "50.00 (n=1)"]
    assert rows[1][3] == "−10.00 (n=1) minus Baseline"


def test_under_each_setting_stands_a_command_that_runs_it(monkeypatch):
    made = []
    monkeypatch.setattr("sba.cli.commands.train_once", lambda run, *_, **__: made.append(run) or ("", 0))
    for row in rows_of(listings.settings_html(RECORDS))[1::2]:
        text = re.findall(r"<code>(.*?)</code>", row[0])[0]
        words = shlex.split(text)
        assert words[:4] == ["python", "-m", "sba", "train"]
        assert CliRunner().invoke(main, words[3:]).exit_code == 0
    assert [run.settings() for run in made] == [RECORDS[i].settings for i in (0, 5, 3, 6)]


@pytest.mark.parametrize("what", ["a processor", "torch 9.9", "source abc"])
def test_it_says_on_what_the_runs_were_made(what):
    assert what in rows_of(listings.settings_html(RECORDS))[1][0]


def test_seconds_of_runs_that_shared_a_machine_say_so():
    alone, shared = (rows_of(listings.settings_html([changed(full(7.0), **more)]))[1][0] for more in ({}, {"jobs": 6}))
    assert ", 2.00 s per epoch on a processor (neighbours not recorded); " in alone
    assert ", 2.00 s per epoch on a processor (beside 5 others); " in shared


def test_seconds_of_different_devices_are_never_mixed():
    slow = [
        changed(full(7.0, seed=s), device_name="a processor", seconds_per_epoch=v) for s, v in ((0, 40.0), (1, 44.0))
    ]
    fast = changed(full(7.0, seed=2), device_name="a card", seconds_per_epoch=1.0)
    text = rows_of(listings.settings_html([*slow, fast]))[1][0]
    told = "neighbours not recorded"
    assert f"42.00 s per epoch on a processor ({told}), 1.00 s per epoch on a card ({told}); " in text


def test_without_records_there_is_a_head_alone():
    assert rows_of(listings.settings_html([])) == []


def test_every_link_to_a_record_finds_its_row():
    timed = changed(bench("attach over the chain"), id="def")
    page = listings.records_html([changed(RECORDS[0], id="abc", file="x.jsonl", line=7), timed])
    for identifier in ("abc", "def"):
        target = re.search(r'href="#([^"]+)"', link(identifier))[1]
        assert page.count(f'id="{target}"') == 1
    assert "x.jsonl, 7" in page and "attach over the chain" in page and f"{timed.value:.3f} (median" in page


def test_every_reduced_record_of_the_book_is_listed_in_a_chapter():
    """CIFAR lists those of no study, efficiency those of Figure 3, ImageNet those on ten classes."""
    found = read(book_folder())
    index, shortened = indexed(found), [r for r in found if isinstance(r, TrainRecord) and r.reduced]
    listed = set(re.findall(r"#record-(\w+)", listings.settings_html(found, reduced=True)))
    listed |= {r.id for r in full_scale.reduced(found)}
    longest = max(r.run.epochs for r in shortened if r.study == "fig3")
    for one in [x for m in FOLDS for x in figure3(index, "cifar10", "alexnet", m, epochs=longest)]:
        listed |= {r.id for side in (one.sba, one.ba, one.base) for r in side.values()}
    assert {r.id for r in shortened} <= listed
