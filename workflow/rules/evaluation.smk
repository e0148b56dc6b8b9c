# Evaluation: how well scores predict what retraining says.
rule evaluation:
    """Make every table."""
    input:
        made_by("evaluation"),


rule evaluate:
    """Measure the scores of one costly point against every ground truth of its setting."""
    input:
        unpack(needs("evaluation/{setting}/{ensemble}/{method}/{point}")),
    output:
        table="results/evaluation/{setting}/{ensemble}/{method}/{point}.csv",
        effects="results/evaluation/{setting}/{ensemble}/{method}/{point}.npz",
        made="results/evaluation/{setting}/{ensemble}/{method}/{point}.made.json",
    log:
        "logs/evaluation/{setting}/{ensemble}/{method}/{point}.log",
    conda:
        "../../envs/attriflow.yaml"
    threads: 1
    resources:
        mem_mb=memory("evaluation/{setting}/{ensemble}/{method}/{point}"),
        runtime=minutes("evaluation/{setting}/{ensemble}/{method}/{point}"),
    shell:
        'python "$SCRIPTS/evaluate.py" {input.spec:q} --threads {threads}'


rule mislabel:
    """Find flipped training labels by self-influence, at every size and damping of one costly point."""
    input:
        unpack(needs("evaluation/{setting}/{ensemble}/{method}/{point}/mislabel")),
    output:
        table="results/evaluation/{setting}/{ensemble}/{method}/{point}/mislabel.csv",
        made="results/evaluation/{setting}/{ensemble}/{method}/{point}/mislabel.made.json",
    log:
        "logs/evaluation/{setting}/{ensemble}/{method}/{point}/mislabel.log",
    conda:
        "../../envs/attriflow.yaml"
    threads: 1
    resources:
        mem_mb=memory("evaluation/{setting}/{ensemble}/{method}/{point}/mislabel"),
        runtime=minutes("evaluation/{setting}/{ensemble}/{method}/{point}/mislabel"),
    shell:
        'python "$SCRIPTS/mislabel.py" {input.spec:q} --threads {threads}'


rule mislabel_baseline:
    """Find flipped training labels by the training loss, at every size and kept epoch of one ensemble."""
    input:
        unpack(needs("evaluation/{setting}/{ensemble}/mislabel_baseline")),
    output:
        table="results/evaluation/{setting}/{ensemble}/mislabel_baseline.csv",
        made="results/evaluation/{setting}/{ensemble}/mislabel_baseline.made.json",
    log:
        "logs/evaluation/{setting}/{ensemble}/mislabel_baseline.log",
    conda:
        "../../envs/attriflow.yaml"
    threads: 1
    resources:
        mem_mb=memory("evaluation/{setting}/{ensemble}/mislabel_baseline"),
        runtime=minutes("evaluation/{setting}/{ensemble}/mislabel_baseline"),
    shell:
        'python "$SCRIPTS/mislabel_baseline.py" {input.spec:q} --threads {threads}'


rule mechanism:
    """Measure, for every member by itself, why a damping is best: r beside the indicator, at one costly point."""
    input:
        unpack(needs("evaluation/{setting}/{ensemble}/{method}/{point}/mechanism")),
    output:
        table="results/evaluation/{setting}/{ensemble}/{method}/{point}/mechanism.csv",
        made="results/evaluation/{setting}/{ensemble}/{method}/{point}/mechanism.made.json",
    log:
        "logs/evaluation/{setting}/{ensemble}/{method}/{point}/mechanism.log",
    conda:
        "../../envs/attriflow.yaml"
    threads: 1
    resources:
        mem_mb=memory("evaluation/{setting}/{ensemble}/{method}/{point}/mechanism"),
        runtime=minutes("evaluation/{setting}/{ensemble}/{method}/{point}/mechanism"),
    shell:
        'python "$SCRIPTS/mechanism.py" {input.spec:q} --threads {threads}'


rule stability:
    """Choose dampings from a few test examples, at every ensemble size of one costly point."""
    input:
        unpack(needs("evaluation/{setting}/{ensemble}/{method}/{point}/stability")),
    output:
        table="results/evaluation/{setting}/{ensemble}/{method}/{point}/stability.csv",
        made="results/evaluation/{setting}/{ensemble}/{method}/{point}/stability.made.json",
    log:
        "logs/evaluation/{setting}/{ensemble}/{method}/{point}/stability.log",
    conda:
        "../../envs/attriflow.yaml"
    threads: 1
    resources:
        mem_mb=memory("evaluation/{setting}/{ensemble}/{method}/{point}/stability"),
        runtime=minutes("evaluation/{setting}/{ensemble}/{method}/{point}/stability"),
    shell:
        'python "$SCRIPTS/stability.py" {input.spec:q} --threads {threads}'


rule variance:
    """Say how the squared error of one ensemble is made up: what halves of its models predict of each other."""
    input:
        unpack(needs("evaluation/{setting}/{ensemble}/{method}/{point}/variance")),
    output:
        table="results/evaluation/{setting}/{ensemble}/{method}/{point}/variance.csv",
        made="results/evaluation/{setting}/{ensemble}/{method}/{point}/variance.made.json",
    log:
        "logs/evaluation/{setting}/{ensemble}/{method}/{point}/variance.log",
    conda:
        "../../envs/attriflow.yaml"
    threads: 1
    resources:
        mem_mb=memory("evaluation/{setting}/{ensemble}/{method}/{point}/variance"),
        runtime=minutes("evaluation/{setting}/{ensemble}/{method}/{point}/variance"),
    shell:
        'python "$SCRIPTS/variance.py" {input.spec:q} --threads {threads}'


rule summarise:
    """Put every measurement of one kind of a study into one tidy table."""
    input:
        unpack(needs("evaluation/{study}{table}")),
    output:
        summary="results/evaluation/{study}{table}.csv",
        made="results/evaluation/{study}{table}.made.json",
    log:
        "logs/evaluation/{study}{table}.log",
    conda:
        "../../envs/attriflow.yaml"
    threads: 1
    resources:
        mem_mb=memory("evaluation/{study}{table}"),
        runtime=minutes("evaluation/{study}{table}"),
    shell:
        'python "$SCRIPTS/summarise.py" {input.spec:q} --threads {threads}'


rule outcome:
    """Say what a study came to: the LDS of every method at its best point, and along its hyperparameters."""
    input:
        unpack(needs("evaluation/{study}outcome")),
    output:
        best="results/evaluation/{study}outcome.json",
        along="results/evaluation/{study}outcome.along.csv",
        made="results/evaluation/{study}outcome.made.json",
    log:
        "logs/evaluation/{study}outcome.log",
    conda:
        "../../envs/attriflow.yaml"
    threads: 1
    resources:
        mem_mb=memory("evaluation/{study}outcome"),
        runtime=minutes("evaluation/{study}outcome"),
    shell:
        'python "$SCRIPTS/outcome.py" {input.spec:q} --threads {threads}'


rule compare:
    """Compare chosen dampings with the best of the grid, and put the curves that chose them into one table."""
    input:
        unpack(needs("evaluation/{study}selection")),
    output:
        selection="results/evaluation/{study}selection.csv",
        curves="results/evaluation/{study}selection.curves.csv",
        made="results/evaluation/{study}selection.made.json",
    log:
        "logs/evaluation/{study}selection.log",
    conda:
        "../../envs/attriflow.yaml"
    threads: 1
    resources:
        mem_mb=memory("evaluation/{study}selection"),
        runtime=minutes("evaluation/{study}selection"),
    shell:
        'python "$SCRIPTS/compare.py" {input.spec:q} --threads {threads}'


rule costs:
    """Say what choosing dampings cost, beside scoring, and beside the retraining that tuning them asks for."""
    input:
        unpack(needs("evaluation/{study}selection.costs")),
    output:
        costs="results/evaluation/{study}selection.costs.csv",
        made="results/evaluation/{study}selection.costs.made.json",
    log:
        "logs/evaluation/{study}selection.costs.log",
    conda:
        "../../envs/attriflow.yaml"
    threads: 1
    resources:
        mem_mb=memory("evaluation/{study}selection.costs"),
        runtime=minutes("evaluation/{study}selection.costs"),
    shell:
        'python "$SCRIPTS/costs.py" {input.spec:q} --threads {threads}'


rule price:
    """Say what every ensemble costs to train, serve and keep, and what the cheapest saves that is as good as naive."""
    input:
        unpack(needs("evaluation/{study}ensembles")),
    output:
        ensembles="results/evaluation/{study}ensembles.csv",
        savings="results/evaluation/{study}ensembles.savings.csv",
        made="results/evaluation/{study}ensembles.made.json",
    log:
        "logs/evaluation/{study}ensembles.log",
    conda:
        "../../envs/attriflow.yaml"
    threads: 1
    resources:
        mem_mb=memory("evaluation/{study}ensembles"),
        runtime=minutes("evaluation/{study}ensembles"),
    shell:
        'python "$SCRIPTS/price.py" {input.spec:q} --threads {threads}'


rule sensitivity:
    """Say how much each hyperparameter matters, and what values from elsewhere cost."""
    input:
        unpack(needs("evaluation/{study}sensitivity")),
    output:
        sensitivity="results/evaluation/{study}sensitivity.csv",
        transfer="results/evaluation/{study}sensitivity.transfer.csv",
        interactions="results/evaluation/{study}sensitivity.interactions.csv",
        made="results/evaluation/{study}sensitivity.made.json",
    log:
        "logs/evaluation/{study}sensitivity.log",
    conda:
        "../../envs/attriflow.yaml"
    threads: 1
    resources:
        mem_mb=memory("evaluation/{study}sensitivity"),
        runtime=minutes("evaluation/{study}sensitivity"),
    shell:
        'python "$SCRIPTS/sensitivity.py" {input.spec:q} --threads {threads}'


rule extremes:
    """Find the training examples that help and hurt a few test examples most."""
    input:
        unpack(needs("evaluation/{study}examples/{setting}")),
    output:
        examples="results/evaluation/{study}examples/{setting}.npz",
        made="results/evaluation/{study}examples/{setting}.made.json",
    log:
        "logs/evaluation/{study}examples/{setting}.log",
    conda:
        "../../envs/attriflow.yaml"
    threads: 1
    resources:
        mem_mb=memory("evaluation/{study}examples/{setting}"),
        runtime=minutes("evaluation/{study}examples/{setting}"),
    shell:
        'python "$SCRIPTS/extremes.py" {input.spec:q} --threads {threads}'


rule removal:
    """Take out the training examples that scores name most helpful, retrain, and table what that changes."""
    input:
        unpack(needs("evaluation/{study}removal/{setting}")),
    output:
        changes="results/evaluation/{study}removal/{setting}.changes.csv",
        summary="results/evaluation/{study}removal/{setting}.summary.csv",
        made="results/evaluation/{study}removal/{setting}.made.json",
    log:
        "logs/evaluation/{study}removal/{setting}.log",
    conda:
        "../../envs/attriflow.yaml"
    threads: 1
    resources:
        mem_mb=memory("evaluation/{study}removal/{setting}"),
        runtime=minutes("evaluation/{study}removal/{setting}"),
        gpu=gpus,
    shell:
        'python "$SCRIPTS/removal.py" {input.spec:q} --threads {threads}'


rule evaluate_further:
    """Compare the scores of one costly point with what further training of the final model says."""
    input:
        unpack(needs("evaluation/{setting}/{ensemble}/{method}/{point}/further")),
    output:
        further="results/evaluation/{setting}/{ensemble}/{method}/{point}/further.csv",
        seeds="results/evaluation/{setting}/{ensemble}/{method}/{point}/further.seeds.csv",
        profile="results/evaluation/{setting}/{ensemble}/{method}/{point}/further.profile.csv",
        made="results/evaluation/{setting}/{ensemble}/{method}/{point}/further.made.json",
    log:
        "logs/evaluation/{setting}/{ensemble}/{method}/{point}/further.log",
    conda:
        "../../envs/attriflow.yaml"
    threads: 1
    resources:
        mem_mb=memory("evaluation/{setting}/{ensemble}/{method}/{point}/further"),
        runtime=minutes("evaluation/{setting}/{ensemble}/{method}/{point}/further"),
    shell:
        'python "$SCRIPTS/evaluate_further.py" {input.spec:q} --threads {threads}'


rule convergence:
    """Say how far one final model has converged."""
    input:
        unpack(needs("evaluation/{setting}/{ensemble}/convergence")),
    output:
        convergence="results/evaluation/{setting}/{ensemble}/convergence.csv",
        made="results/evaluation/{setting}/{ensemble}/convergence.made.json",
    log:
        "logs/evaluation/{setting}/{ensemble}/convergence.log",
    conda:
        "../../envs/attriflow.yaml"
    threads: 1
    resources:
        mem_mb=memory("evaluation/{setting}/{ensemble}/convergence"),
        runtime=minutes("evaluation/{setting}/{ensemble}/convergence"),
        gpu=gpus,
    shell:
        'python "$SCRIPTS/convergence.py" {input.spec:q} --threads {threads}'


rule agree:
    """Compare the ground truths of one final model with each other."""
    input:
        unpack(needs("evaluation/{setting}/{ensemble}/agreement")),
    output:
        truths="results/evaluation/{setting}/{ensemble}/agreement.csv",
        profile="results/evaluation/{setting}/{ensemble}/agreement.profile.csv",
        made="results/evaluation/{setting}/{ensemble}/agreement.made.json",
    log:
        "logs/evaluation/{setting}/{ensemble}/agreement.log",
    conda:
        "../../envs/attriflow.yaml"
    threads: 1
    resources:
        mem_mb=memory("evaluation/{setting}/{ensemble}/agreement"),
        runtime=minutes("evaluation/{setting}/{ensemble}/agreement"),
    shell:
        'python "$SCRIPTS/agree.py" {input.spec:q} --threads {threads}'
