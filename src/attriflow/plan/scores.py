"""Jobs of scores: of every costly point of a method's grid."""

from attriflow.ensembles import Member
from attriflow.hyperparameters import RULES, point_folder
from attriflow.plan.grid import Grid
from attriflow.plan.jobs import Job, Jobs, Source
from attriflow.plan.models import adapters_of, described_members, sizes_of, training_of


def add_scores(
    plan: Jobs,
    setting: str,
    ensemble: str,
    method: str,
    members: list[Member],
    models: list[Job],
    ensembled: Job,
    data: Job,
):
    """One job per costly point of a method's grid."""
    entry, own = plan.config["methods"][method], plan.config["ensembles"][ensemble]
    most = entry["only"].get("members", len(members))
    wanted = sorted({size.within(most) for size in sizes_of(plan, ensemble)})
    grid = Grid.of(plan.registry, entry)
    training, described = training_of(plan, setting), described_members(plan, members, models, wanted)
    if plan.config["settings"][setting]["access"] == "final_model":
        training, described = training | {"recipe": None}, [each | {"run": None} for each in described]
    written = [size.written for size in wanted]
    common = {"setting": setting, "ensemble": ensemble, "method": method, "kind": entry["kind"]}
    for costly in grid.costly():
        stem = f"scores/{setting}/{ensemble}/{method}/{point_folder(costly) or 'base'}"
        prepared = []
        for start in range(0, len(described), own["block"]):
            block = slice(start, min(start + own["block"], len(described)))
            job = plan.add(
                "prepare",
                f"{stem}/{start // own['block']}",
                common
                | training
                | {"members": described[block], "first": start}
                | {"hyperparameters": costly | grid.prefixes(), "dtype": plan.config["dtype"]},
                {"prepared": "npz"},
                {"data": [Source(data, "data")], "models": [Source(model, "model") for model in models[block]]}
                | adapters_of(plan, setting, ensemble, models[block]),
                [("scores", entry["kind"]), ("models", training["model"]["kind"])],
            )
            prepared.append(Source(job, "prepared"))
        cheap = grid.cheap()
        inputs = {"ensemble": [Source(ensembled, "ensemble")], "prepared": prepared}
        if any(point.get("damping") in RULES for point in cheap):
            selected = _add_selection(plan, common | {"costly": costly, "sizes": written}, stem, cheap, prepared)
            inputs["selection"] = [Source(selected, "selection")]
        yield plan.add(
            "score",
            stem,
            common | {"costly": costly, "cheap": cheap, "sizes": written},
            {"scores": "npz"},
            inputs,
            [("scores", entry["kind"])],
        )


def _add_selection(plan: Jobs, common: dict, stem: str, cheap: list[dict], prepared: list[Source]) -> Job:
    """The dampings that rules choose for one costly point, at each cheap one that has a spectrum of its own."""
    takes = plan.registry.hyperparameters("scores", common["kind"], "spectrum")
    points = [{name: point[name] for name in takes} for point in cheap if point["damping"] in RULES]
    return plan.add(
        "choose",
        f"{stem}/selection",
        common | {"points": [point for place, point in enumerate(points) if point not in points[:place]]},
        {"selection": "json", "curve": "csv"},
        {"prepared": prepared},
        [("scores", common["kind"])],
    )


def add_query(plan: Jobs, scores: Job) -> Job:
    """What one more test example takes, of one member; counted once for all ensembles whose members are whole.

    Adapters have sizes of their own. Names of ensembles begin with a letter, so `queries.0` is none of theirs.
    """
    named, block = scores.settings, scores.inputs["prepared"][0].job
    first = block.settings["members"][0]
    change = first["changes"][0]
    counted = named["ensemble"] if change.get("kind") == "lora" else 0
    point = scores.stem.rsplit("/", 1)[1]
    return plan.add(
        "query",
        f"scores/{named['setting']}/queries.{counted}/{named['method']}/{point}",
        block.settings | {"members": [first | {"changes": [change]}], "cheap": named["cheap"]},
        {"query": "json"},
        {"data": block.inputs["data"], **{name: each[:1] for name, each in block.inputs.items() if name != "data"}},
        [("scores", named["kind"]), ("models", block.settings["model"]["kind"])],
    )


def described_models(scores: Job) -> list[dict]:
    """The models of an ensemble that are scored, in their order."""
    return [each for source in scores.inputs["prepared"] for each in source.job.settings["members"]]
