"""Recordings: told by their content, exact, and a bad row costs nothing but itself."""

from __future__ import annotations

import gzip
from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from mts1b_brokers_core.foundation.errors import RecordingError
from mts1b_brokers_core.foundation.orders import Order, Side
from mts1b_simulator import (
    SAMPLES,
    BarEvent,
    DeltaEvent,
    ExchangeConfig,
    QuoteEvent,
    Recording,
    Refusal,
    SimulatedExchange,
    SnapshotEvent,
    TradeEvent,
    merge,
    read_recording,
    sample,
    sample_feed,
    spot,
)

DATA = Path(__file__).parent / "data"
BARS = "ts,open,high,low,close,volume"
QUOTES = "ts,bid_open,bid_high,bid_low,bid_close,bid_size,ask_open,ask_high,ask_low,ask_close,ask_size"
GOOD = "2024-01-02T00:00:00Z,1,3,1,2,10"


def write(folder: Path, *lines: str, name: str = "anything.dat") -> Path:
    path = folder / name
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def problems(recording: Recording) -> list[tuple[int, bool]]:
    return [(problem.line, problem.used) for problem in recording.problems]


def bar(minute: int, cells: str = "1,3,1,2,10") -> str:
    return f"2024-01-02T00:{minute:02}:00Z,{cells}"


def test_a_bar_row_is_exact_and_known_only_at_its_end(tmp_path: Path) -> None:
    found = read_recording(
        write(tmp_path, BARS, bar(0, "0.1,0.30,0.1,0.2,8.880099999999999"), bar(1, "0.2,0.2,0.2,0.2,1")),
        "BTC/USD",
    )
    first = found.events[0]
    assert isinstance(first, BarEvent)
    start = int(datetime(2024, 1, 2, tzinfo=UTC).timestamp()) * 1_000_000_000
    assert (first.start_ns, first.ts_ns) == (start, start + 60_000_000_000)
    assert (first.symbol, first.high, first.volume) == (
        "BTC-USD",
        Decimal("0.3"),
        Decimal("8.880099999999999"),
    )
    assert (found.format, found.problems) == ("bars", ())


def test_a_quote_row_is_the_quote_it_closes_with(tmp_path: Path) -> None:
    found = read_recording(write(tmp_path, QUOTES, "2024-01-02T00:00:00Z,9,9,8,8,5,10,11,10,11,6"), "X")
    assert found.events[0][3:] == (Decimal(8), Decimal(5), Decimal(11), Decimal(6))
    assert isinstance(found.events[0], QuoteEvent)


@pytest.mark.parametrize(
    ("row", "what"),
    [
        (",1,3,1,2,10", "stamp is missing"),
        ("yesterday,1,3,1,2,10", "not a date"),
        ("2024-01-02T00:01:00,1,3,1,2,10", "no time zone"),
        (bar(0), "repeats that of line 2"),
        ("2024-01-01T00:00:00Z,1,3,1,2,10", "out of order"),
        ("2099-01-01T00:00:00Z,1,3,1,2,10", "out of order"),
        (bar(1, "1,1,3,2,10"), "high 1 is below low 3"),
        (bar(1, "5,3,1,2,10"), "open 5 lies outside"),
        (bar(1, "1,3,1,two,10"), "close is 'two', not a number"),
        (bar(1, "1,3,1,,10"), "close is missing"),
        (bar(1, "1,3,1,nan,10"), "not a number"),
        (bar(1, "1,3,1,1_0,10"), "not a number"),
        (bar(1, "-1,3,-1,2,10"), "open is -1, not above zero"),
        (bar(1, "1,3,1,2,-10"), "volume is -10, below zero"),
        (bar(1, "1,3,1,2"), "5 columns, the header 6"),
        (bar(1, "1,3,1,2,10,7"), "7 columns, the header 6"),
    ],
)
def test_a_bad_row_is_named_and_costs_only_itself(tmp_path: Path, row: str, what: str) -> None:
    found = read_recording(write(tmp_path, BARS, bar(0), row, bar(2), bar(3)), "X")
    assert len(found) == 3
    assert problems(found) == [(3, False)]
    assert what in found.problems[0].what


def test_crossed_quotes_are_told_and_take_the_quote_before_away(tmp_path: Path) -> None:
    good, crossed, locked = (
        f"2024-01-02T00:0{minute}:00Z,9,{bid},9,{bid},5,10,10,10,10,6"
        for minute, bid in enumerate(("9", "12", "10"))
    )
    found = read_recording(write(tmp_path, QUOTES, good, crossed, locked), "COIN-USD")
    assert (len(found), problems(found)) == (3, [(3, True)])
    assert "bid 12 above ask 10" in found.problems[0].what
    venue = SimulatedExchange(ExchangeConfig((spot("COIN-USD", "Coin"),)))
    reasons = []
    for number, event in enumerate(found):
        venue.apply(event)
        reasons.append(venue.submit(Order.market("COIN-USD", Side.BUY, "1"), f"t{number}").reason)
    assert reasons == [None, Refusal.CROSSED_MARKET_DATA, None]


def test_a_crossed_best_of_a_stream_is_told_and_delivered_where_the_best_is_asked_for(tmp_path: Path) -> None:
    lines = stream()
    row = '{"data":{"s":"BTCUSDT","u":1,"b":"12","B":"1","a":"11","A":"1"}}'
    lines.insert(200, f"{lines[200].split(' ')[0]} {row}")
    path = write(tmp_path, *lines)
    found = read_recording(path, quotes=True)
    assert (len(found), problems(found)) == (
        len(read_recording(write(tmp_path, *stream(), name="x"), quotes=True)) + 1,
        [(201, True)],
    )
    assert problems(read_recording(path)) == [(201, False)]


def test_bytes_that_are_no_text_cost_their_line(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(f"{BARS}\n{bar(0)}\n".encode() + b"\xff\xfe\x00\n" + f"{bar(1)}\n".encode())
    found = read_recording(path, "X")
    assert (len(found), problems(found)) == (2, [(3, False)])


def test_a_gzip_that_is_cut_gives_what_is_whole(tmp_path: Path) -> None:
    packed = gzip.compress(
        "\n".join([BARS, *(bar(i // 60, f"{i},{i + 1},{i},{i},{i * 7919}") for i in range(1, 60))]).encode()
    )
    path = tmp_path / "cut.csv"
    path.write_bytes(packed[: len(packed) * 3 // 4])
    rows = [BARS] + [
        f"2024-01-02T{i // 60:02}:{i % 60:02}:00Z,1,3,1,2,{i * 7919 % 1000}" for i in range(1000)
    ]
    packed = gzip.compress("\n".join(rows).encode())
    path.write_bytes(packed[: len(packed) // 2])
    found = read_recording(path, "X")
    assert 100 < len(found) < 1000
    assert problems(found) == [(len(found) + 2, False)]
    assert "cut short" in found.problems[0].what


def test_a_mixed_utc_offset_is_read_right_and_told(tmp_path: Path) -> None:
    rows = [f"2024-10-25T15:00:00{zone},1,3,1,2,10" for zone in ("+02:00", "+01:00")]
    found = read_recording(write(tmp_path, BARS, *rows), "X")
    assert problems(found) == [(3, True)]
    assert found.problems[0].kind == "doubtful"
    assert found.events[1].ts_ns - found.events[0].ts_ns == 3_600_000_000_000


def test_dirty_yahoo_files_are_read_with_what_is_odd_told_and_a_wrong_unit_left_out() -> None:
    hourly = read_recording(DATA / "ASAI-L-1h-bad-unit.csv", "ASAI.L")
    assert (hourly.format, len(hourly)) == ("yahoo", 19)
    assert [(row.line, row.kind) for row in hourly.problems] == [(13, "left_out"), (19, "doubtful")]
    assert "wrong unit" in hourly.problems[0].what
    assert "UTC offset changes from +01:00 to +00:00" in hourly.problems[-1].what
    assert hourly.events[0].ts_ns - hourly.events[0].start_ns == 3_600_000_000_000
    daily = read_recording(DATA / "AET-L-1d-100x-error.csv", "AET.L")
    stamps = [event.ts_ns for event in daily]
    assert (len(daily), stamps) == (14, sorted(stamps))
    assert {event.close < 1 for event in daily if isinstance(event, BarEvent)} == {True}
    assert "newest to oldest" in daily.problems[0].what
    assert [(row.line, row.kind) for row in daily.problems] == [
        (2, "doubtful"), *((line, "left_out") for line in range(12, 21)),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("closes", "left_out", "doubtful"),
    [
        ((50, 51, 5100, 50, 49), [4], []),
        ((50, 51, "0.5", 50, 49), [4], []),
        ((5000, 50, 51, 50, 49), [], [3]),  # there is nothing before it to judge it by
        ((50, 51, 50, 5000, 5100), [], [5]),  # it never comes back: a split, as far as one can tell
        ((5000, 50, 51, 5200, 50), [5], [3]),
        ((50, 51, 5, 50, 49), [], [4, 5]),  # ten to one, twice
        ((50, 51, 700, 50, 49), [], [4, 5]),
    ],
)
def test_a_row_a_hundredfold_off_both_neighbours_is_left_out_and_a_split_kept(
    tmp_path: Path, closes: tuple[object, ...], left_out: list[int], doubtful: list[int]
) -> None:
    rows = [bar(minute, f"{c},{c},{c},{c},10") for minute, c in enumerate(closes)]
    found = read_recording(write(tmp_path, BARS, *rows), "X")
    told = {
        kind: [row.line for row in found.problems if row.kind == kind]
        for kind in ("left_out", "doubtful", "unreadable")
    }
    assert told == {"left_out": left_out, "doubtful": doubtful, "unreadable": []}
    assert len(found) == len(closes) - len(left_out)


def test_quotes_in_another_unit_are_left_out(tmp_path: Path) -> None:
    rows = [
        f"2024-01-02T00:0{minute}:00Z,{b},{b},{b},{b},5,{a},{a},{a},{a},6"
        for minute, (b, a) in enumerate(((9, 10), (900, 1000), (9, 10), ("0.09", "0.10"), (9, 10)))
    ]
    found = read_recording(write(tmp_path, QUOTES, *rows), "X")
    assert [(row.line, row.kind) for row in found.problems] == [(3, "left_out"), (5, "left_out")]
    assert len(found) == 3


def test_a_bar_with_one_price_in_another_unit_is_left_out(tmp_path: Path) -> None:
    rows = [bar(0, "50,51,50,50,1"), bar(1, "50,51,0.5,50,1"), bar(2, "50,51,50,50,1")]
    found = read_recording(write(tmp_path, BARS, *rows), "X")
    assert [(row.line, row.kind) for row in found.problems] == [(3, "left_out")]
    assert "low 0.5" in found.problems[0].what


def test_the_length_of_a_bar_is_told_from_the_stamps(tmp_path: Path) -> None:
    seconds = [f"2024-01-02T00:00:{s:02}Z,1,3,1,2,10" for s in (4, 30, 37)]
    days = [f"2024-01-0{d},1,3,1,2,10" for d in (2, 5)]
    for header, rows, expected in (
        (BARS, seconds, 1), (BARS, [bar(0), bar(3), bar(4)], 60), (BARS.replace("ts", "date"), days, 86_400),
    ):  # fmt: skip
        found = read_recording(write(tmp_path, header, *rows), "X")
        assert {event.ts_ns - event.start_ns for event in found} == {expected * 1_000_000_000}
    forced = read_recording(write(tmp_path, BARS, GOOD), "X", interval_ns=5_000_000_000)
    assert forced.events[0].ts_ns - forced.events[0].start_ns == 5_000_000_000


@pytest.mark.parametrize(
    "content",
    [b"", b"\n\n", b"\x89PNG\r\n\x1a\n\x00\x00", b"hello\nworld\n", b"a,b,c\n1,2,3\n", f"{BARS}\n".encode(),
     f"{BARS}\nx,1,2,3,4,5\n".encode(), b'{"id": 1}\n', b"\x1f\x8b garbage", gzip.compress(b""),
     b'17 {"data": []}\n'],
)  # fmt: skip
def test_what_is_no_recording_is_refused_with_what_to_do(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "prices.csv.gz"
    path.write_bytes(content)
    with pytest.raises(RecordingError, match="is not a recording") as raised:
        read_recording(path, "X")
    assert raised.value.next_step.startswith("give a CSV")


def test_a_missing_file_and_a_missing_symbol_say_so(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="No such file"):
        read_recording(tmp_path / "none.csv", "X")
    with pytest.raises(RecordingError, match="which instrument"):
        read_recording(write(tmp_path, BARS, GOOD))
    with pytest.raises(RecordingError, match="not a symbol"):
        read_recording(write(tmp_path, BARS, GOOD), "b t c")


# --- the depth stream ------------------------------------------------------------------------------


def stream() -> list[str]:
    return gzip.decompress((DATA / "btcusdt_l2_slice.ndjson.gz").read_bytes()).decode().splitlines()


def test_depth_joins_the_snapshot_by_id() -> None:
    found = read_recording(DATA / "btcusdt_l2_slice.ndjson.gz")
    assert (found.format, found.symbol, found.problems) == ("binance-l2", "BTC-USDT", ())
    kinds = [type(event) for event in found]
    assert kinds.count(SnapshotEvent) == 1
    deltas = [event for event in found if isinstance(event, DeltaEvent)]
    assert deltas[0].event_id == "depth:50093239224"  # it came before the snapshot and reaches beyond it
    assert found.events.index(deltas[0]) == kinds.index(SnapshotEvent) + 1
    assert TradeEvent in kinds
    assert QuoteEvent not in kinds
    with_quotes = read_recording(DATA / "btcusdt_l2_slice.ndjson.gz", "BTC-USD", quotes=True)
    assert Counter(map(type, with_quotes))[QuoteEvent] > 100
    assert {event.symbol for event in with_quotes} == {"BTC-USD"}


def test_a_lost_depth_frame_is_told_and_the_old_book_forgotten(tmp_path: Path) -> None:
    lines = stream()
    depth = [i for i, line in enumerate(lines) if "depthUpdate" in line]
    lost = depth[6]
    found = read_recording(write(tmp_path, *lines[:lost], *lines[lost + 1 :]))
    whole = read_recording(write(tmp_path, *lines))
    assert problems(found) == [(depth[7], True)]
    assert "jump" in found.problems[0].what
    emptied = [event for event in found if isinstance(event, SnapshotEvent) and not event.bids]
    assert len(emptied) == 1
    assert len(found) == len(whole)  # one frame less, one emptied book more: nothing good was lost


@pytest.mark.parametrize(
    ("bad", "what"),
    [
        ('{"stream":"x"', "receive time"),
        ('99 {"stream": "btc', "whole JSON"),
        ("99 []", "not an object"),
        (
            '9999999999999999999 {"data":{"e":"trade","s":"BTCUSDT","t":1,"p":"1","q":"1","m":true}}',
            "out of order",
        ),
        ('99 {"data":{"e":"trade","s":"BTCUSDT","t":1,"p":"1","q":"1","m":true}}', "out of order"),
        ('{ns} {"data":{"e":"trade","s":"BTCUSDT","t":1,"p":"-1","q":"1","m":true}}', "not above zero"),
        ('{ns} {"data":{"e":"trade","s":"BTCUSDT","t":"1","p":"1","q":"1","m":true}}', "whole number"),
        ('{ns} {"data":{"e":"trade","s":"ETHUSDT","t":1,"p":"1","q":"1","m":true}}', "about ETHUSDT"),
        ('{ns} {"data":{"s":"BTCUSDT","u":1,"b":"12","B":"1","a":"11","A":"1"}}', "crossed"),
        ('{ns} {"data":{"e":"depthUpdate","s":"BTCUSDT","U":1,"u":2,"b":[],"a":[]}}', "seen already"),
        ('{ns} {"data":{"e":"depthUpdate","s":"BTCUSDT","U":9,"u":2,"b":[],"a":[]}}', "backwards"),
        (
            '{ns} {"data":{"e":"depthUpdate","s":"BTCUSDT","U":1,"u":2,"b":[["x","1"]],"a":[]}}',
            "not a number",
        ),
        ('{ns} {"data":{"hello":1}}', "unknown kind"),
    ],
)
def test_a_bad_frame_is_named_and_costs_only_itself(tmp_path: Path, bad: str, what: str) -> None:
    lines = stream()
    whole = len(read_recording(write(tmp_path, *lines)))
    at = 200
    lines.insert(at, bad.replace("{ns}", lines[at].split(" ")[0]))
    found = read_recording(write(tmp_path, *lines))
    assert (len(found), problems(found)) == (whole, [(at + 1, False)])
    assert what in found.problems[0].what


# --- feeds -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(SAMPLES))
def test_the_samples_are_clean_and_merge_in_time(name: str) -> None:
    assert all(not recording.problems for recording in sample(name))
    events = list(sample_feed(name))
    stamps = [event.ts_ns for event in events]
    assert stamps == sorted(stamps)
    assert {type(event) for event in events} == {QuoteEvent, BarEvent}


def test_at_equal_times_the_source_named_first_goes_first() -> None:
    quotes, trades = sample("crypto-day")
    merged = list(merge(quotes, trades))
    assert isinstance(merged[0], QuoteEvent)
    assert list(merge(quotes, trades)) == merged
    assert isinstance(next(iter(merge(trades, quotes))), BarEvent)
