"""A comparison in a sentence or two: for what B is better, for what worse, and who gains."""

from collections.abc import Iterable, Iterator, Sequence
from statistics import NormalDist

from evaluation.comparison.records import Difference, Group, Outcome, RelationComparison

JUDGED = "recall@10"
SAID: dict[Outcome, str] = {
    "better": "better for",
    "worse": "worse for",
    "alike": "no different for",
    "unknown": "not to be told apart, for want of users, for",
}
OF_KIND = {
    "known edges": "users with {} known edges",
    "followers": "users with {} followers",
    "target in-degree": "targets of in-degree {}",
    "unknown users": "users {}",
    "newcomers": "newcomers",
}


def verdict(b: str, relations: Sequence[RelationComparison]) -> str:
    """What B's default answers are worth beside A's, relation by relation, newcomers apart; by recall@10 and the 95%
    intervals of the differences."""
    items: dict[Outcome, list[str]] = {outcome: [] for outcome in SAID}
    for outcome, text in _items(relations):
        items[outcome].append(text)
    said = [f"{SAID[outcome]} {listed(texts)}" for outcome, texts in items.items() if texts]
    if not said:
        return f"Nothing was measured of both: whether {b} is better is not known."
    return f"{b} is {'; '.join(said)}. {gains(relations)}".strip()


def one_version(name: str) -> str:
    """In place of a verdict where a version meets itself, as `current` meets `latest` once that is published."""
    return f"A and B are the same version, {name}: nothing differs. Compare before publishing, or name an earlier one."


def _items(relations: Iterable[RelationComparison]) -> Iterator[tuple[Outcome, str]]:
    for one in relations:
        default = one.default()
        if default is not None and JUDGED in default.metrics:
            yield default.outcome(JUDGED), f"{one.relation} ({moved(default.metrics[JUDGED])})"
        for group in one.groups:
            if group.kind == "newcomers" and JUDGED in group.metrics:
                whom = "newcomers" if group.name == "a few engagements" else f"newcomers by {group.name},"
                yield group.outcome(JUDGED), f"{whom} of {one.relation} ({moved(group.metrics[JUDGED])})"


def gains(relations: Iterable[RelationComparison]) -> str:
    """Who gains and who loses of the default answers; nothing where no group does.

    Of many groups one in twenty leaves its 95% interval by chance, so here intervals are as wide as so many need
    (Bonferroni).
    """
    groups = [(one, group) for one in relations for group in one.groups if group.kind != "newcomers"]
    wider = NormalDist().inv_cdf(1.0 - 0.025 / max(1, len(groups))) / NormalDist().inv_cdf(0.975)
    gain: list[str] = []
    lose: list[str] = []
    for one, group in groups:
        found = group.metrics.get(JUDGED)
        if found is not None and found.difference is not None and found.low is not None and found.high is not None:
            if found.difference - wider * (found.difference - found.low) > 0:
                gain.append(f"{called(group)} ({one.relation})")
            elif found.difference + wider * (found.high - found.difference) < 0:
                lose.append(f"{called(group)} ({one.relation})")
    said = [f"{words} {word}" for words, word in ((listed(gain), "gain"), (listed(lose), "lose")) if words]
    text = "; ".join(said)
    return f"{text[0].upper()}{text[1:]}." if text else ""


def called(group: Group) -> str:
    """A group of users or targets in words."""
    return OF_KIND[group.kind].format(group.name) if group.kind in OF_KIND else group.name


def label(group: Group) -> str:
    """A group as a label of a chart or a table, what it is told apart by first."""
    kinds = {"known edges": "known edges", "followers": "followers", "target in-degree": "in-degree of target"}
    return f"{group.name} {kinds[group.kind]}" if group.kind in kinds else called(group)


def moved(found: Difference) -> str:
    """`recall@10 .312 to .345`, and the interval of the difference where there is one."""
    text = f"{JUDGED} {short(found.a)} to {short(found.b)}"
    if found.low is None or found.high is None:
        return text
    return f"{text}, {signed(found.difference)} [{signed(found.low)}, {signed(found.high)}]"


def short(value: float | None) -> str:
    """Three decimals without a leading zero; a dash for what is not known."""
    return "–" if value is None else f"{value:.3f}".replace("0.", ".", 1) if 0 <= value < 1 else f"{value:.3f}"


def signed(value: float | None) -> str:
    """With its sign, as `short`."""
    if value is None:
        return "–"
    rounded = round(value, 3)
    return "0" if rounded == 0 else f"{'+' if rounded > 0 else '−'}{short(abs(rounded))}"


def listed(texts: Sequence[str]) -> str:
    """`a, b and c`."""
    return " and ".join([", ".join(texts[:-1]), texts[-1]]) if len(texts) > 1 else "".join(texts)
