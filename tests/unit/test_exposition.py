"""Prometheus' text format: names, escapes, numbers and cumulative buckets."""

from shared.exposition import Family, Histogram, render


def test_a_sample_is_a_line_under_its_help_and_type() -> None:
    text = render([Family("a_b", "gauge", "What it is.", [({}, 1), ({"queue": "message:send"}, 0.5)])])

    assert text == '# HELP a_b What it is.\n# TYPE a_b gauge\na_b 1\na_b{queue="message:send"} 0.5\n'


def test_what_a_label_may_hold_is_escaped() -> None:
    text = render([Family("a", "counter", "x\ny", [({"route": 'a"b\\c\nd'}, 3)])])

    assert text.splitlines()[0] == "# HELP a x\\ny"
    assert text.splitlines()[2] == 'a{route="a\\"b\\\\c\\nd"} 3'


def test_buckets_count_all_up_to_their_bound() -> None:
    text = render([Family("t", "histogram", "T.", [({"q": "a"}, Histogram((0.1, 1.0), (2, 0, 3), 4.5))])])

    assert text.splitlines()[2:] == [
        't_bucket{q="a",le="0.1"} 2',
        't_bucket{q="a",le="1"} 2',
        't_bucket{q="a",le="+Inf"} 5',
        't_sum{q="a"} 4.5',
        't_count{q="a"} 5',
    ]
