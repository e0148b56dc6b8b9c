# Figures: drawn from tables.
rule figures:
    """Draw every figure."""
    input:
        made_by("figures"),


rule draw:
    """Draw one figure, as PDF and PNG."""
    input:
        unpack(needs("figures/{study}{figure}")),
    output:
        pdf="results/figures/{study}{figure}.pdf",
        png="results/figures/{study}{figure}.png",
        made="results/figures/{study}{figure}.made.json",
    log:
        "logs/figures/{study}{figure}.log",
    conda:
        "../../envs/attriflow.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=minutes("figures/{study}{figure}"),
    shell:
        'python "$SCRIPTS/draw.py" {input.spec:q} --threads {threads}'
