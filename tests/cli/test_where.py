from __future__ import annotations

import operator
import re
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kfws.cli.where import entries, parse
from kfws.errors import UsageError
from tests.frames_of import frame, frames

Message = dict[str, Any]


def message_of(payload: bytes) -> Message:
    found: Message = msgspec.json.decode(payload)
    return found


TRADE = message_of(frames("trade", kind="delta")[0])
TRADES = message_of(frames("trade", kind="snapshot")[0])
BOOK = message_of(frames("book", kind="snapshot")[0])
ORDER = message_of(frame("open_orders", "placement"))
CANCEL = message_of(frame("open_orders", "user cancel"))
CANDLE = message_of(frames("candles", kind="snapshot")[0])


def holds(text: str, message: Message) -> bool:
    return parse(text).matches(message)


# Comparisons


@pytest.mark.parametrize(
    "text",
    [
        "a==1",
        "a == 1.0",
        "a==1e0",
        "a!=2",
        "a<1.5",
        "a<=1",
        "a>-1",
        "a>=+1",
        "a>.5",
        "price==83999.0",
        "s==sell",
        "s=='sell'",
        's=="sell"',
        "s!=buy",
        "s>buy",
        "s<=sell",
        "yes==true",
        "yes!=false",
        "nothing==null",
        "a!=null",
        "deep.in.it==7",
        ".deep.in.it==7",
        "id==PF_XBTUSD",
        "uuid==8b58d9da-fcaf-4f60-91bc-9973a3eba48d",
        "at>=2019-07-11T08:00:00.000Z",
        "at<2019-07-12",
        "number=='12.50'",
        "number==12.5",
        "number>12",
        "number<1e2",
        "wallet.F-XBT:USD.unit==XBT",
        r"quoted=='it\'s \"so\" \\ far'",
        r'quoted=="it\'s \"so\" \\ far"',
        r"lines=='one\ntwo\tthree\rfour'",
        "empty==''",
        "word=='and'",
    ],
)
def test_comparisons_that_hold(text: str) -> None:
    assert holds(
        text,
        {
            "a": 1,
            "price": 83999,
            "s": "sell",
            "yes": True,
            "nothing": None,
            "deep": {"in": {"it": 7}},
            "id": "PF_XBTUSD",
            "uuid": "8b58d9da-fcaf-4f60-91bc-9973a3eba48d",
            "at": "2019-07-11T08:00:00.000Z",
            "number": "12.50",
            "wallet": {"F-XBT:USD": {"unit": "XBT"}},
            "quoted": 'it\'s "so" \\ far',
            "lines": "one\ntwo\tthree\rfour",
            "empty": "",
            "word": "and",
        },
    )


@pytest.mark.parametrize("sign", ["==", "!=", "<", "<=", ">", ">="])
@pytest.mark.parametrize("key", ["b", "a.b", "a.b.c", "o.b", "l.b"])
def test_a_missing_key_makes_every_comparison_false(sign: str, key: str) -> None:
    assert not holds(f"{key}{sign}1", {"a": 1, "o": {}, "l": [1]})


@pytest.mark.parametrize("value", [1, 1.5, "x", True, None, {}, []])
@pytest.mark.parametrize("literal", ["7", "'7'", "y", "false", "null"])
def test_values_of_different_types_are_unequal_and_have_no_order(value: Any, literal: str) -> None:
    wanted = {"7": 7, "'7'": "7", "y": "y", "false": False, "null": None}[literal]
    if type(value) is type(wanted) or {type(value), type(wanted)} == {int, float}:
        return
    message = {"a": value}
    assert not holds(f"a=={literal}", message)
    assert holds(f"a!={literal}", message)
    if literal not in ("false", "null"):
        assert not any(holds(f"a{sign}{literal}", message) for sign in ("<", "<=", ">", ">="))


def test_a_bool_is_no_number() -> None:
    assert not holds("a==1", {"a": True})
    assert not holds("a==true", {"a": 1})


def test_null_equals_only_null() -> None:
    assert holds("a==null", {"a": None})
    assert not holds("a!=null", {"a": None})
    assert not any(holds("a==null", {"a": value}) for value in (0, "", False, "null"))


@pytest.mark.parametrize("text", ["", "abc", "1_000", "0x10", "1e", "NaN", "Infinity", "1 ", "٣"])
def test_a_text_that_reads_as_no_number_equals_none(text: str) -> None:
    assert not holds("a==3", {"a": text})
    assert holds("a!=3", {"a": text})
    assert not holds("a<3", {"a": text})


def test_large_integers_compare_exactly() -> None:
    assert holds("a==9007199254740993", {"a": 9007199254740993})
    assert not holds("a==9007199254740993", {"a": 9007199254740992})


def test_a_number_of_many_thousand_digits_is_infinite() -> None:
    assert holds("a<" + "9" * 10_000, {"a": 1e308})
    assert holds("a==1", {"a": "1"})
    assert holds("a>1", {"a": "9" * 10_000})


# Connectives


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a==1 and b==2", True),
        ("a==1 and b==3", False),
        ("a==0 or b==2", True),
        ("a==0 or b==3", False),
        ("not a==0", True),
        ("not not a==1", True),
        ("not missing==1", True),
        ("not a==0 and b==3", False),
        ("not (a==0 and b==3)", True),
        ("a==1 or a==0 and b==3", True),
        ("(a==1 or a==0) and b==3", False),
        ("(((a==1)))", True),
        ("(a==1)and(b==2)", True),
        ("a==1 and b==2 and c==3 and d==4", False),
        ("\n a \t == \n 1 ", True),
    ],
)
def test_not_binds_before_and_and_before_or(text: str, expected: bool) -> None:
    assert holds(text, {"a": 1, "b": 2, "c": 3}) is expected


def test_an_expression_keeps_its_text() -> None:
    assert parse(" side==buy ").text == " side==buy "
    assert "side==buy" in repr(parse("side==buy"))


# Entries


def test_a_flat_message_is_matched_itself() -> None:
    assert holds("side==sell and price>1", TRADE)
    assert entries(TRADE) == []


def test_a_list_message_matches_when_any_entry_does() -> None:
    assert holds("seq==421130", TRADES)
    assert not holds("seq==7", TRADES)


def test_the_whole_expression_is_about_one_entry() -> None:
    message = {"trades": [{"side": "buy", "qty": 1}, {"side": "sell", "qty": 9}]}
    assert holds("side==buy", message)
    assert holds("qty>5", message)
    assert not holds("side==buy and qty>5", message)


def test_a_key_that_the_entry_lacks_is_looked_up_in_the_message() -> None:
    message = {"feed": "fills_snapshot", "account": "me", "fills": [{"feed": "fills", "qty": 1}]}
    assert holds("account==me and qty==1", message)
    assert holds("feed==fills", message)
    assert not holds("feed==fills_snapshot", message)


def test_null_in_an_entry_hides_the_key_of_the_message() -> None:
    assert holds("a==null", {"a": 1, "trades": [{"a": None}]})


def test_a_message_with_an_empty_list_is_matched_itself() -> None:
    assert holds("feed==fills_snapshot", {"feed": "fills_snapshot", "fills": []})
    assert holds("feed==x", {"feed": "x", "numbers": [1, "2", None, [{"feed": "y"}]]})


def test_levels_of_a_book_get_the_side_of_their_list() -> None:
    assert holds("side==buy and price==83998", BOOK)
    assert holds("side==sell and price==83999", BOOK)
    assert not holds("side==sell and price==83998", BOOK)
    assert holds("product_id==PF_XBTUSD and seq==115335794", BOOK)
    assert "side" not in BOOK["bids"][0]


def test_a_side_of_the_level_itself_is_kept() -> None:
    assert holds("side==odd", {"bids": [{"side": "odd"}]})
    assert not holds("side==buy", {"bids": [{"side": "odd"}]})


def test_an_order_under_its_key_is_an_entry() -> None:
    assert holds("instrument==PF_XBTUSD and limit_price<84000 and is_cancel==false", ORDER)
    assert holds("order.instrument==PF_XBTUSD", ORDER)
    assert entries(ORDER) == [ORDER["order"]]


def test_an_id_only_cancel_is_matched_itself() -> None:
    assert holds("is_cancel==true and reason==cancelled_by_user", CANCEL)
    assert not holds("instrument==PF_XBTUSD", CANCEL)


def test_a_new_entry_of_the_account_log_is_an_entry() -> None:
    [payload] = frames("account_log", kind="delta")
    assert holds("asset==pi_bchusd and trade_price>342", message_of(payload))


def test_the_text_numbers_of_a_candle_compare_by_value() -> None:
    assert holds("candle.close==83999.0 and candle.volume<1", CANDLE)
    assert not holds("candle.close>84000", CANDLE)


# Errors


@pytest.mark.parametrize(
    ("text", "at", "says"),
    [
        ("side=buy", 5, "type == instead"),
        ("a==1 && b==2", 6, "type and instead"),
        ("a==1 || b==2", 6, "type or instead"),
        ("a==1 AND b==2", 6, "type and instead"),
        ("a==1 OR b==2", 6, "type or instead"),
        ("NOT a==1", 1, "type not instead"),
        ("!a==1", 1, "type not instead"),
        ("a<>1", 2, "type != instead"),
        ("a", 2, "expected one of == != < <= > >=, found the end"),
        ("a b", 3, "expected one of == != < <= > >=, found 'b'"),
        ("a==", 4, "expected a value: a number, a text, true, false or null, found the end"),
        ("a==(1)", 4, "expected a value"),
        ("a==and", 4, "expected a value"),
        ("a==1 b==2", 6, "expected 'and', 'or' or the end, found 'b'"),
        ("a==1)", 5, "expected 'and', 'or' or the end, found ')'"),
        ("(a==1", 6, "expected 'and', 'or' or ')', found the end"),
        ("(a==1 b==2)", 7, "expected 'and', 'or' or ')', found 'b'"),
        ("()", 2, "expected a key such as price or order.qty, found ')'"),
        ("5<last", 1, "expected a key"),
        ("true==a", 1, "expected a key"),
        ("and", 1, "expected a key"),
        ("a==1 and", 9, "expected a key such as price or order.qty, found the end"),
        ("not", 4, "expected a key"),
        ("'a'==1", 1, "expected a key"),
        ("a..b==1", 1, "expected a key"),
        (".==1", 1, "expected a key"),
        ("a.==1", 1, "expected a key"),
        ("a=='b", 4, "a quote is not closed"),
        ("a==\"b'", 4, "a quote is not closed"),
        (r"a=='b\'", 4, "a quote is not closed"),
        ("a<true", 3, "expected a number or a text after <, found 'true'"),
        ("a>=null", 4, "expected a number or a text after >=, found 'null'"),
    ],
)
def test_an_error_quotes_the_text_points_at_the_place_and_says_what_to_type(
    text: str, at: int, says: str
) -> None:
    with pytest.raises(UsageError) as caught:
        parse(text)
    error = caught.value
    assert error.message.startswith(f"expression {text!r}: at character {at}, ")
    assert says in f"{error.message}; {error.hint}"
    assert error.hint


@pytest.mark.parametrize("text", ["", " ", "\n\t"])
def test_an_empty_expression_is_named_so(text: str) -> None:
    with pytest.raises(UsageError, match="the expression is empty"):
        parse(text)


def test_an_error_is_one_line_also_for_a_long_text_of_many_lines() -> None:
    with pytest.raises(UsageError) as caught:
        parse("a==1\nand\n" * 1000 + "b=2" + " and c==3" * 1000)
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 250
    assert "b=2 and c==3" in caught.value.message


def test_parentheses_may_nest_but_not_without_end() -> None:
    assert holds("(" * 32 + "a==1" + ")" * 32, {"a": 1})
    with pytest.raises(UsageError, match="more than 32 parentheses inside each other"):
        parse("(" * 33 + "a==1" + ")" * 33)


def test_groups_beside_each_other_do_not_nest() -> None:
    assert holds(" and ".join(["((a==1))"] * 1000), {"a": 1})


@pytest.mark.parametrize(
    "text",
    [
        "(" * 50_000,
        "not " * 25_000 + "a==1",
        "a==1 and " * 10_000 + "a==1",
        "a==1 or " * 10_000 + "a==1",
        "'" * 50_001,
        "a=='" + "\\" * 50_001,
        " " * 50_000,
        " " * 50_000 + "\\",
        "a" * 50_000,
        "a." * 25_000 + "a==" + "1" * 50_000,
        "\"'" * 25_000,
    ],
)
def test_a_very_long_text_is_read_in_one_go(text: str) -> None:
    try:
        parse(text).matches({"a": 1})
    except UsageError as error:
        assert len(error.message) < 500  # noqa: PT017 - either outcome is right, a crash is not


WORDS = ["a", "side", "and", "or", "not", "1", "-1.5e3", "true", "null", "PF_XBTUSD", "é"]
MARKS = ["==", "=", "!=", "<", "<=", ">", ">=", "!", "(", ")", "'", '"', "\\", ".", "&&", "|", "\0"]
PIECES = st.sampled_from(WORDS + MARKS)


@given(st.text() | st.lists(PIECES).map("".join) | st.lists(PIECES).map(" ".join))
def test_any_text_is_an_expression_or_a_usage_error(text: str) -> None:
    try:
        expression = parse(text)
    except UsageError as error:
        assert error.hint  # noqa: PT017
        assert "\n" not in error.message  # noqa: PT017
    else:
        expression.matches(TRADES)


# A second, naive reading of the rules, to compare with.

SIGNS: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
TEXTS = st.sampled_from(["buy", "sell", "PF_XBTUSD", "x y", "it's", '"', "\\", "", "and", "7", "é"])
NUMBERS = st.sampled_from([0, 1, 2, -1, 0.5, 2.0, 1e300])
PATHS = st.sampled_from(["a", "b", "side", "order", "deep.a", "deep.b", "order.a", "bids"])


def comparisons() -> st.SearchStrategy[tuple[Any, ...]]:
    ordered = st.tuples(st.just("is"), PATHS, st.sampled_from([*SIGNS]), TEXTS | NUMBERS)
    plain = st.sampled_from([True, False, None])
    return ordered | st.tuples(st.just("is"), PATHS, st.sampled_from(["==", "!="]), plain)


TREES: st.SearchStrategy[tuple[Any, ...]] = st.recursive(
    comparisons(),
    lambda inner: (
        st.tuples(st.just("not"), inner)
        | st.tuples(st.sampled_from(["and", "or"]), st.lists(inner, min_size=1, max_size=3))
    ),
    max_leaves=6,
)
FLAT = st.dictionaries(
    st.sampled_from(["a", "b", "side"]), TEXTS | NUMBERS | st.booleans() | st.none()
)
MESSAGES: st.SearchStrategy[Message] = st.builds(
    operator.or_,
    FLAT,
    st.fixed_dictionaries(
        {},
        optional={
            "deep": FLAT,
            "order": FLAT,
            "bids": st.lists(FLAT, max_size=2),
            "asks": st.lists(FLAT | st.integers(), max_size=2),
            "trades": st.lists(FLAT, max_size=2),
        },
    ),
)


def written(tree: tuple[Any, ...]) -> str:
    if tree[0] == "is":
        return f"{tree[1]} {tree[2]} {literal(tree[3])}"
    if tree[0] == "not":
        return f"not ({written(tree[1])})"
    return f" {tree[0]} ".join(f"({written(part)})" for part in tree[1])


def literal(value: object) -> str:
    if isinstance(value, str):
        if re.fullmatch(r"[A-Za-z_]{2,}", value) and value != "and":
            return value
        return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
    return msgspec.json.encode(value).decode()


def true_of(tree: tuple[Any, ...], entry: Message, message: Message) -> bool:
    if tree[0] == "not":
        return not true_of(tree[1], entry, message)
    if tree[0] == "and":
        return all(true_of(part, entry, message) for part in tree[1])
    if tree[0] == "or":
        return any(true_of(part, entry, message) for part in tree[1])
    _, path, sign, wanted = tree
    for place in (entry, message):
        try:
            value: Any = place
            for key in path.split("."):
                value = {}[key] if not isinstance(value, dict) else value[key]
        except KeyError:
            continue
        return true_of_value(value, sign, wanted)
    return False


def true_of_value(value: Any, sign: str, wanted: Any) -> bool:
    def is_number(thing: Any) -> bool:
        return isinstance(thing, int | float) and not isinstance(thing, bool)

    if is_number(wanted) and isinstance(value, str):
        value = 7 if value == "7" else value
    if (is_number(wanted) and is_number(value)) or type(wanted) is type(value):
        return SIGNS[sign](value, wanted)
    return sign == "!="


def candidates(message: Message) -> list[Message]:
    found = [message["order"]] if "order" in message else []
    for key, side in (("bids", "buy"), ("asks", "sell"), ("trades", None)):
        for entry in message.get(key, []):
            if isinstance(entry, dict):
                found.append({"side": side, **entry} if side else entry)
    return found or [message]


@given(TREES, MESSAGES)
def test_an_expression_means_what_a_naive_reading_of_the_rules_says(
    tree: tuple[Any, ...], message: Message
) -> None:
    expected = any(true_of(tree, entry, message) for entry in candidates(message))
    assert holds(written(tree), message) is expected
