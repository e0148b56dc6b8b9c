"""Train every adapter of one model, beside its frozen weights; keep the adapters and their metrics."""

from attriflow import engine, flops, lora
from attriflow.data import load_split
from attriflow.device import inputs, labels
from attriflow.io import save_json, save_weights
from attriflow.job import Job, run
from attriflow.models import builder, built, load_trained, with_adapters
from attriflow.outputs import loss
from attriflow.runs import Run


def main(job: Job):
    settings, split = job.settings, load_split(job.input("data"))
    plain = builder(job.registry, settings["model"], split.shape, split.classes, split.tokens)
    base = load_trained(job.input("model"), settings["base"], job.seed, plain)
    build = with_adapters(plain, base.final, base.name, settings["adapter"])
    names, last = lora.weights(built(build)), settings["recipe"]["epochs"]
    runs = [Run.from_dict(each) for each in settings["runs"]]
    adapters, measured, losses = [], [], []
    for stack in engine.train(
        build,
        split.train_x,
        split.train_y,
        runs,
        settings["recipe"],
        job.seed,
        threads=job.threads,
        device=job.device,
        progress=job.progress(len(runs) * last, "epoch"),
    ):
        for place in range(len(stack.runs)):
            state = stack.state(place, last)
            adapters.append({name: state[name] for name in names})
            measured.append(engine.metrics(build, {last: state}, split, job.device)["checkpoints"][str(last)])
            losses.append(stack.losses[place].tolist())
    save_weights(job.outputs["adapters"], {"adapters": adapters})
    parameters = sum(weights.numel() for weights in adapters[0].values())
    module = built(build)
    once = flops.of_step(module, inputs(module, split.train_x[:1]), labels(module, split.train_y[:1]), loss)
    taken = once * len(runs[0].examples(len(split.train_y), job.seed)) * last  # of one adapter
    content = {"adapters": measured, "epoch_losses": losses, "parameters": parameters, "training_flops": taken}
    save_json(job.outputs["metrics"], content)


if __name__ == "__main__":
    run(main)
