"""What choosing a damping costs, beside scoring, and beside the retraining that tuning it by the LDS asks for."""

from collections import defaultdict

import pandas as pd

from attriflow import sizes


def table(choosing: list[dict], scoring: list[dict], preparing: list[dict], retraining: list[dict]) -> pd.DataFrame:
    """A row for each costly point at which a damping is chosen, and ground truth by which it could be tuned.

    All are what jobs say of themselves: seconds of wall time, with those that starting Python takes. choose_share: of
    choosing, preparing and scoring together. dampings: how many were scored, of the grid and chosen, at every ensemble
    size and other cheap hyperparameter. models: how many retraining trained.
    """
    scored = {each["spec"]["job"]: each for each in scoring}
    prepared, truths = defaultdict(list), defaultdict(list)
    for each in preparing:
        prepared[_folder(each)].append(each)
    for each in retraining:
        truths[_folder(each)].append(each)
    rows = []
    for each in choosing:
        stem = _folder(each)
        settings = each["spec"]["settings"]
        point = {key: settings[key] for key in ("setting", "ensemble", "method")} | settings["costly"]
        costs = _costs(each, scored[stem], prepared[stem])
        for truth, blocks in truths.items():
            setting, name = truth.split("/")[1:]
            if setting == settings["setting"]:
                rows.append(point | costs | {"truth": name} | _retraining(blocks))
    return pd.DataFrame(rows)


def _folder(job: dict) -> str:
    return job["spec"]["job"].rsplit("/", 1)[0]


def _costs(choosing: dict, scoring: dict, preparing: list[dict]) -> dict[str, float]:
    seconds = {"choose": _seconds([choosing]), "prepare": _seconds(preparing), "score": _seconds([scoring])}
    dampings = len({point["damping"] for point in scoring["spec"]["settings"]["cheap"]})
    return {
        "members": sizes.largest(sizes.read(choosing["spec"]["settings"]["sizes"])).members,
        **{f"{name}_seconds": value for name, value in seconds.items()},
        "choose_share": seconds["choose"] / sum(seconds.values()),
        "choose_peak_mib": choosing["cost"]["peak_mib"],
        "dampings": dampings,
        "seconds_a_damping": seconds["score"] / dampings,
    }


def _retraining(blocks: list[dict]) -> dict[str, float]:
    models = sum(len(each["spec"]["settings"]["runs"]) for each in blocks)
    return {"retrain_seconds": _seconds(blocks), "models": models}


def _seconds(jobs: list[dict]) -> float:
    return sum(each["cost"]["seconds"] for each in jobs)
