"""Which kinds of messages are worth a template."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from celery_sqlalchemy_kit.kinds import AT_ONCE, MESSAGES_EACH, MOST_KNOWN, TRIES, Kinds

properties = settings(deadline=None, database=None, max_examples=200)


def test_a_kind_is_worth_one_from_its_second_message_on():
    kinds = Kinds()

    assert [False, False, True, True] == [kinds.take(each) for each in "abab"]
    assert not kinds.has_come("c")
    kinds.meet("c")
    assert kinds.has_come("c")
    assert kinds.take("c")


def test_a_kind_of_which_no_template_comes_is_given_up():
    kinds = Kinds()
    kinds.meet("a")
    kinds.meet("b")
    for _ in range(TRIES):
        assert kinds.take("a")
        kinds.fail("a")

    assert not kinds.take("a")
    assert not kinds.has_come("a")
    assert kinds.take("b")


def test_once_many_have_become_templates_others_do_as_messages_are_sent():
    kinds = Kinds()
    many = range(AT_ONCE + 5)
    for kind in many:
        kinds.meet(kind)

    assert AT_ONCE == sum(kinds.take(kind) for kind in many)
    for number in range(3 * MESSAGES_EACH):
        kinds.sent()
        assert kinds.take(number) == ((number + 1) % MESSAGES_EACH == 0), number


@properties
@given(st.lists(st.sampled_from(["sent", "take"]), max_size=60), st.integers(0, 500))
def test_no_more_become_templates_than_that(does, before):
    kinds = Kinds()
    kinds.meet("a")
    taken = sum(kinds.take("a") for _ in range(AT_ONCE + 1))
    for _ in range(before):
        kinds.sent()
    sent = before
    for each in does:
        if each == "sent":
            kinds.sent()
            sent += 1
        else:
            taken += kinds.take("a")
        assert taken <= AT_ONCE + sent / MESSAGES_EACH + 1e-6


def test_kinds_without_end_are_not_remembered_without_end():
    kinds = Kinds()
    for number in range(MOST_KNOWN + 1):
        kinds.meet(number)

    assert len(kinds._failed) <= MOST_KNOWN
    assert kinds.has_come(MOST_KNOWN)
