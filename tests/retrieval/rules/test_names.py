"""Rules by name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from spmem.config import RetrievalConfig
from spmem.errors import InputError, UnknownNameError
from spmem.registry import SHIPPED
from spmem.retrieval.rules import METHODS, retriever
from spmem.retrieval.rules.covisibility import Covisibility

PAGE = Path(__file__).resolve().parents[3] / "docs" / "rules.md"


def test_each_name_makes_a_rule_of_its_own() -> None:
    assert len({type(retriever(name)) for name in METHODS}) == len(METHODS)


def test_the_default_method_exists() -> None:
    assert isinstance(retriever(RetrievalConfig().method), Covisibility)


def test_the_configuration_reaches_the_rule() -> None:
    config = RetrievalConfig(candidates=7, dim=64, index="flat")
    rule = retriever("covisibility", config)
    assert isinstance(rule, Covisibility)
    assert rule.config is config


def test_an_unknown_rule_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'covisibility'"):
        retriever("covisiblity")
    with pytest.raises(UnknownNameError, match="did you mean 'fais"):
        retriever("covisibility", RetrievalConfig(index="fais"))


def test_the_oracle_by_name_says_how_to_hand_it_the_truth() -> None:
    with pytest.raises(InputError, match=r"method=Oracle\(seen\)"):
        retriever("oracle")


def test_the_page_lists_every_rule_and_no_other() -> None:
    if not PAGE.exists():
        pytest.skip("docs/ is not here")
    table = PAGE.read_text().partition("| name |")[2].partition("\n\n")[0]
    assert re.findall(r"^\| `([a-z-]+)` \|", table, re.MULTILINE) == sorted(SHIPPED["retriever"])
