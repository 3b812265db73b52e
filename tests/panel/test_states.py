"""How a payment stands is said in words, in both languages; what is new is said as it is."""

import pytest

from ivr_agi import outcomes
from ivr_agi.journal import AttemptState, Resolution
from ivr_agi.model import Method
from ivr_agi.outcomes import Review
from ivr_agi.panel import showing, states


@pytest.mark.parametrize("language", showing.LANGUAGES)
def test_words(language):
    """Every state, reason, kind of review and method has words; a word that is new is shown as it is."""
    for state in AttemptState:
        for resolution in Resolution if state is AttemptState.RESOLVED else ("",):
            assert states.badge({"state": state, "resolution": resolution}, language).text
    for word in (*outcomes.ENDINGS, "process-gone", "internal-error", "read-timeout"):
        assert states.reason(word, language) != word
    for review in Review:
        assert (states.review(review, language) == "") == (review is Review.NONE)
        assert review is Review.NONE or states.review(review, language) != review
    assert all(states.method(method, language) != method for method in Method)
    assert all(states.bank_says(code, language) for code in (*outcomes.DECLINES, "99"))
    for word in ("http-503", "unclear-answer-http-200", "unclear-answer-read-timeout"):
        assert states.reason(word, language) != word
    assert states.reason("a-new-word", language) == "a-new-word"
