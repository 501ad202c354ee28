"""The claims, one by one: what each paper says, its figures, and the comparisons that must hold here.

Figures are the papers' or their authors' own, from single runs. A statement without figures has only the direction
that its paper's abstract gives.
"""

from benchmarks.study.claims.statements import Claim, Statement

BLN = "Ziaee & Cano, arXiv 2209.08898"
FOUR = "Summers & Dinneen, arXiv 1906.03548"
NORM_MATTERS = "Hoffer, Banner, Golan & Soudry, arXiv 1803.01814"
KALMAN = "Wang, Peng, Luo, Wang & Lin, arXiv 1802.03133"
POPULATION = "Luo, Wang, Shao & Peng, arXiv 1809.00846"
SELU = "Klambauer, Unterthiner, Mayr & Hochreiter, arXiv 1706.02515"
RULE = "Alsobhi, Alafif, Zong & Abdel-Hakim, arXiv 2211.02050"
PUBLISHED = "batch_layer@searched"
RULE_CELLS = ("published raw", "published standardized", "published scales(1)")


def _bln(title: str, says: str, tested: str, cell: str, of_bln: str, of_batch: str, of_layer: str) -> Claim:
    alike = float(of_bln) - float(of_batch) < 0.01
    return Claim(
        title,
        BLN,
        says,
        tested,
        (
            Statement(cell, PUBLISHED, "batch", "equal" if alike else "above", (of_bln, of_batch)),
            Statement(cell, PUBLISHED, "layer", "above", (of_bln, of_layer)),
            Statement(cell, "batch_layer", "batch", "equal" if alike else "above"),
            Statement(cell, "batch_layer", "layer"),
        ),
    )


_SEARCH = (
    "`searched`: as published, the best of 16 inference configurations, but chosen on 96 validation samples where the "
    "authors chose on the test set; `batch_layer` alone: the default configuration."
)
_ONE = (
    " At one sample batch norm gives beta in dense and recurrent layers whatever comes in, as in the authors' code, "
    "and the default batch layer norm is layer norm: its formula gives the batch's part no weight."
)

CLAIMS: tuple[Claim, ...] = (
    _bln(
        "Batch layer norm, images, batch 1",
        "CIFAR-10, LeNet-style CNN, 20 % of the training data: well ahead of batch norm, ahead of layer norm.",
        "20 % of the digits. " + _SEARCH + _ONE,
        "bln images 1",
        ".442",
        ".109",
        ".378",
    ),
    _bln(
        "Batch layer norm, images, batch 25",
        "The same: as good as batch norm, ahead of layer norm.",
        "As above.",
        "bln images 25",
        ".455",
        ".453",
        ".423",
    ),
    _bln(
        "Batch layer norm, sequences, batch 1",
        "IMDB, LSTM: well ahead of batch norm, ahead of layer norm.",
        "20 % of the digits as sequences of 8 rows in place of IMDB, ten classes in place of two. Norm on the "
        "preactivations of each step." + _ONE,
        "bln sequences 1",
        ".731",
        ".495",
        ".684",
    ),
    _bln(
        "Batch layer norm, sequences, batch 25",
        "The same: ahead of both.",
        "As above.",
        "bln sequences 25",
        ".771",
        ".698",
        ".711",
    ),
    Claim(
        "Kalman norm at groups of 2",
        KALMAN,
        "CIFAR-10, 64 groups of 2: a lower validation error than batch norm over the same groups and group norm "
        "(figures: 1 - error).",
        "Digits, a residual net with five norms, batches of 32 in 16 groups of 2, gain 0.9, deterministic priors.",
        (
            Statement("kalman", "kalman", "batch in groups", "above", (".924", ".913")),
            Statement("kalman", "kalman", "group", "above", (".924", ".915")),
        ),
    ),
    Claim(
        "Kalman norm, ImageNet",
        KALMAN,
        "ResNet-50 at batch 4: top-1 76.1 %, 3.4 points ahead of batch norm.",
        "ImageNet and a ResNet-50 are out of reach of this study.",
    ),
    Claim(
        "Ghost batch norm",
        FOUR,
        "At medium and large batches, statistics over small groups regularize and raise accuracy.",
        "Batches of 128, groups of 16.",
        (Statement("ghost", "ghost_batch", "batch"),),
    ),
    Claim(
        "Batch/group norm at very small batches",
        FOUR,
        "Groups of channels and of samples together are ahead of batch norm.",
        "Batches of 4 and 8, groups of 2 samples and 2 channels.",
        (
            Statement("batch group 4", "batch_group", "batch"),
            Statement("batch group 8", "batch_group", "batch"),
        ),
    ),
    Claim(
        "Inference example weighing",
        FOUR,
        "Letting the current sample count in the inference statistics of a trained network raises accuracy at all "
        "batch sizes.",
        "The batch norm networks of the two claims above, the weight chosen on validation data (`weighed`) against 0.",
        tuple(Statement(cell, "batch@weighed", "batch") for cell in ("batch group 4", "batch group 8", "ghost")),
    ),
    Claim(
        "L1 and top-k batch norm in float16",
        NORM_MATTERS,
        "The first batch norms to work in half precision; L1 and top-k lose nothing against L2 in float32.",
        "Every result of the norm's forward pass rounded to float16, gradients in float32.",
        (
            Statement("float16", "l1_batch", "batch in float32", "equal"),
            Statement("float16", "topk_batch", "batch in float32", "equal"),
            Statement("float16", "linf_batch", "batch in float32", "equal"),
        ),
    ),
    Claim(
        "L2 batch norm fails in float16 where squares overflow",
        NORM_MATTERS,
        "Squares and sums of squares leave the range of half precision, L1 and L-infinity norms do not.",
        "The same on inputs times 400, whose squares overflow.",
        (
            Statement("float16 large", "batch in float32", "batch"),
            Statement("float16 large", "l1_batch", "batch"),
            Statement("float16 large", "topk_batch", "batch"),
            Statement("float16 large", "l1_batch", "batch in float32", "equal"),
            Statement("float16 large", "topk_batch", "batch in float32", "equal"),
        ),
    ),
    Claim(
        "L2 batch norm fails in float16 at ordinary scales",
        NORM_MATTERS,
        "L1 and L-infinity give the first batch norm to work in half precision: so that of L2 does not.",
        "On standardized inputs, as in the first of these claims; on the authors' hardware sums are rounded too.",
        (Statement("float16", "batch in float32", "batch"),),
    ),
    Claim(
        "L1 and top-k batch norm in bfloat16",
        NORM_MATTERS,
        "As above, for a type the paper has not: the range of float32, 8 bits of precision.",
        "Every result of the norm's forward pass rounded to bfloat16.",
        (
            Statement("bfloat16", "l1_batch", "batch in float32", "equal"),
            Statement("bfloat16", "topk_batch", "batch in float32", "equal"),
        ),
    ),
    Claim(
        "Speed of half precision",
        NORM_MATTERS,
        "L1 and L-infinity norms save time and memory in hardware with half precision.",
        "Arithmetic is emulated here; docs/performance.md has the layers' speed in float32.",
    ),
    Claim(
        "Batch norm is population norm with gamma decay",
        POPULATION,
        "Population norm alone is worse than batch norm; with gamma decay it is about as good.",
        "LeNet on digits, statistics calibrated before training and running from then on, the full coefficient.",
        (
            Statement("population", "population + gamma decay", "batch", "equal"),
            Statement("population", "batch", "population"),
            Statement("population", "population + gamma decay", "population"),
        ),
    ),
    Claim(
        "Self-normalizing networks",
        SELU,
        "Deep fully connected SELU networks are ahead of those with batch norm and of those without norms.",
        "MLPs with 8 and 16 hidden layers of 48; the others have ReLU and He's initialization.",
        tuple(Statement(f"selu {depth}", "selu", other) for depth in (8, 16) for other in ("batch", "none")),
    ),
    Claim(
        "The published rule against batch norm",
        RULE,
        "Normalizing only the batches that the rule flags is better than ordinary batch norm, mostly at small batches.",
        "Class deviation above 1.20 as in the released code: the input batch is standardized or not, evaluation never. "
        "Against batch norm in all layers, batches of 4, LeNet; digits raw, standardized, and with their features' "
        "scales spread (log-normal 1).",
        tuple(Statement(cell, "published", "batch") for cell in RULE_CELLS),
    ),
    Claim(
        "The published rule's verdicts are worth following",
        RULE,
        "The rule finds the batches that need normalization (the premise of the claim above).",
        "The same network and input gate: the rule against never, and against always, which evaluates test batches "
        "by their own statistics too.",
        tuple(Statement(cell, "published", other) for cell in RULE_CELLS for other in ("never", "always")),
    ),
    Claim(
        "Bounded weight norm with mean-only batch norm",
        NORM_MATTERS,
        "Comes close to batch norm at large scale, where weight norm does not.",
        "The residual net on digits, without weight decay: about as good as batch norm?",
        (Statement("bounded", "bounded + mean_only", "batch", "equal"),),
    ),
    Claim(
        "Weight decay acts through the learning rate",
        NORM_MATTERS,
        "Batch norm without weight decay is worse; with learning rates eta ||w||^2 / ||w_wd||^2 it is as good again.",
        "Weight decay 0.01 of the weights in front of norms in 400 steps of SGD (the paper: 0.0005 in many more). Each "
        "arm's eta is tuned.",
        (
            Statement("decay", "no decay, corrected", "decay", "equal"),
            Statement("decay", "decay", "no decay"),
        ),
    ),
)
