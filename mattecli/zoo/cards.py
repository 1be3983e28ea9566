"""The cards of all networks, family by family, the default first. Read without importing torch."""

from __future__ import annotations

from functools import partial

from mattecli.zoo.registry import Card

_bgmv2 = partial(
    Card,
    builder="mattecli.zoo.bgmv2:BGMv2",
    paper="Real-Time High-Resolution Background Matting",
    year=2021,
    inputs="image + background",
    code_licence="MIT",
    weights_licence="MIT",
    address="https://drive.google.com/drive/folders/1cbetlrKREitIgjnIikG1HdM4x72FtgBh",
    layout="bare state_dict: backbone, aspp, decoder, refiner",
    notes="People before a background that was photographed alone. Exports with refine_mode full; otherwise the "
    "picture decides which blocks are refined.",
)
_bgmv2_base = partial(
    _bgmv2, builder="mattecli.zoo.bgmv2:BGMv2Base", notes="The coarse network alone; takes the whole one's files too."
)
_bisenetv2 = partial(
    Card,
    builder="mattecli.zoo.bisenetv2:BiSeNetV2",
    paper="BiSeNet V2: Bilateral Network with Guided Aggregation for Real-time Semantic Segmentation",
    year=2021,
    inputs="image",
    code_licence="MIT",
    weights_licence="MIT",
    direct=True,
    layout="bare state_dict: detail, segment, bga, head, aux2, aux3, aux4, aux5_4",
)
_BISENET = "https://github.com/CoinCheung/BiSeNet/releases/download/0.0.0/"
_rvm = partial(
    Card,
    builder="mattecli.zoo.rvm:RVM",
    paper="Robust High-Resolution Video Matting with Temporal Guidance",
    year=2022,
    inputs="image",
    code_licence="GPL-3.0 (the authors'; this implementation is not theirs)",
    weights_licence="GPL-3.0",
    terms="copyleft",
    direct=True,
    layout="bare state_dict: backbone, aspp, decoder, project_mat, project_seg, refiner",
    notes="People; recurrent over the frames of a clip.",
)
_RVM = "https://github.com/PeterL1n/RobustVideoMatting/releases/download/v1.0.0/"
_dim = partial(
    Card,
    builder="mattecli.zoo.dim:DIM",
    paper="Deep Image Matting",
    year=2017,
    inputs="image + trimap",
    code_licence="non-commercial (the port's; this implementation is not theirs)",
    weights_licence="non-commercial (the port's)",
    terms="non-commercial",
    direct=True,
    layers=True,
    layout="state_dict beside epoch and best_sad: conv1_1 … conv6_1, deconv6_1 … deconv1, refine_…",
)
_NO_UNPOOLING = "Not for ONNX: PyTorch's exporter does not take max_unpool2d."
_DIM = "https://github.com/huochaitiantang/pytorch-deep-image-matting/releases/download/"

_ppmatting = partial(
    Card,
    builder="mattecli.zoo.ppmatting:PPMatting",
    paper="PP-Matting: High-Accuracy Natural Image Matting",
    year=2022,
    inputs="image",
    code_licence="Apache-2.0",
    weights_licence="Apache-2.0 (PaddleSeg's)",
    direct=True,
    layout="pickle of {name: array}: backbone, scb, hrdb, and StructuredToParameterName@@",
)
_PADDED = "Not for ONNX: PyTorch's exporter loses the sizes behind HRNet's paddings, which the pooled means need."
_PPMATTING = "https://paddleseg.bj.bcebos.com/matting/models/ppmatting-"


def _gfm(rosta: str, encoder: str, parameters: int, file: str | None = None) -> Card:
    """`file` is Drive's name of the published weights."""
    return Card(
        name=f"gfm-{rosta}-{encoder}",
        builder="mattecli.zoo.gfm:GFM",
        options={"encoder": encoder, "rosta": rosta},
        paper="Bridging Composite and Real: Towards End-to-end Deep Image Matting",
        year=2022,
        inputs="image",
        parameters=parameters,
        code_licence="MIT",
        weights_licence="MIT" if file else "none published",
        address=f"https://drive.google.com/file/d/{file}/view" if file else None,
        layout="bare state_dict: the torchvision network whole, encoder0 …, psp_module, psp…, decoder…_g, decoder…_f",
        notes=(
            "Animals. The file holds an ImageNet classifier too, which is not used. "
            if file
            else "To be trained for animals or people; there are no published weights. "
        )
        + "Exports with sides that are multiples of 480.",
    )


_solved = partial(
    Card,
    builder="mattecli.zoo.closed_form:Solved",
    inputs="image + trimap",
    parameters=0,
    code_licence="MIT (pymatting)",
    weights_licence="no weights",
)

CARDS = (
    Card(
        name="realtime",
        builder="mattecli.zoo.realtime:RealTime",
        paper="mattecli's own network",
        year=2026,
        inputs="image",
        parameters=3_386_024,
        code_licence="Apache-2.0",
        weights_licence="Apache-2.0",
        notes="The default. People first; recurrent over the frames of a clip.",
        weights="realtime.safetensors",
    ),
    Card(
        name="modnet",
        builder="mattecli.zoo.modnet:MODNet",
        paper="MODNet: Real-Time Trimap-Free Portrait Matting via Objective Decomposition",
        year=2022,
        inputs="image",
        parameters=6_487_075,
        code_licence="Apache-2.0",
        weights_licence="Apache-2.0",
        address="https://drive.google.com/drive/folders/1umYmlCulvIFNaqPjwod1SayFmSRHziyR",
        notes="Portraits. The folder holds modnet_photographic_portrait_matting.ckpt and "
        "modnet_webcam_portrait_matting.ckpt.",
    ),
    _bgmv2(name="bgmv2-mobilenetv2", options={"encoder": "mobilenetv2"}, parameters=5_006_839),
    _bgmv2(name="bgmv2-resnet50", options={"encoder": "resnet50"}, parameters=40_247_703),
    _bgmv2(name="bgmv2-resnet101", options={"encoder": "resnet101"}, parameters=59_239_831),
    _bgmv2_base(name="bgmv2-base-mobilenetv2", options={"encoder": "mobilenetv2"}, parameters=4_991_395),
    _bgmv2_base(name="bgmv2-base-resnet50", options={"encoder": "resnet50"}, parameters=40_232_259),
    _bgmv2_base(name="bgmv2-base-resnet101", options={"encoder": "resnet101"}, parameters=59_224_387),
    _bisenetv2(
        name="bisenetv2",
        options={"data": "cityscapes"},
        parameters=5_231_487,
        address=_BISENET + "model_final_v2_city.pth",
        notes="Coarse segmentation of street scenes: persons and riders of Cityscapes' 19 classes.",
    ),
    _bisenetv2(
        name="bisenetv2-coco",
        options={"data": "coco"},
        parameters=5_594_615,
        address=_BISENET + "model_final_v2_coco.pth",
        notes="Coarse segmentation: the persons of COCO-Stuff's 171 classes.",
    ),
    _bisenetv2(
        name="bisenetv2-ade20k",
        options={"data": "ade20k"},
        parameters=5_544_446,
        address=_BISENET + "model_final_v2_ade20k.pth",
        notes="Coarse segmentation: the persons of ADE20K's 150 classes.",
    ),
    _bisenetv2(
        name="bisenetv2-person",
        options={"data": "person"},
        parameters=5_190_874,
        weights_licence="none published",
        notes="Two classes, person and not, to be trained from masks; there are no published weights.",
    ),
    _bisenetv2(
        name="bisenetv2-matting",
        builder="mattecli.zoo.bisenetv2:BiSeNetV2Matting",
        parameters=5_188_485,
        weights_licence="none published",
        notes="One output, to be trained as a matting network; there are no published weights.",
    ),
    _rvm(
        name="rvm-mobilenetv3",
        options={"encoder": "mobilenetv3"},
        parameters=3_748_633,
        address=_RVM + "rvm_mobilenetv3.pth",
    ),
    _rvm(
        name="rvm-resnet50",
        options={"encoder": "resnet50"},
        parameters=26_890_461,
        address=_RVM + "rvm_resnet50.pth",
    ),
    _rvm(
        name="rvm-mobilenetv3-fast",
        options={"encoder": "mobilenetv3", "refiner": "fast"},
        parameters=3_747_825,
        address=_RVM + "rvm_mobilenetv3.pth",
        notes="With the fast guided filter; takes the files of rvm-mobilenetv3.",
    ),
    _rvm(
        name="rvm-resnet50-fast",
        options={"encoder": "resnet50", "refiner": "fast"},
        parameters=26_889_653,
        address=_RVM + "rvm_resnet50.pth",
        notes="With the fast guided filter; takes the files of rvm-resnet50.",
    ),
    _dim(
        name="dim",
        parameters=28_297_153,
        address=_DIM + "v1.4/stage1_sad_54.4.pth",
        notes="Without skips, as in the paper; for a port's file whose name does not say skip. " + _NO_UNPOOLING,
    ),
    _dim(
        name="dim-skip",
        options={"skips": True},
        parameters=28_297_153,
        address=_DIM + "V1.5/stage1_skip_sad_52.9.pth",
        notes="With skips, for a port's file whose name says so: the layouts are the same. " + _NO_UNPOOLING,
    ),
    _dim(
        name="dim-refine",
        options={"refine": True},
        parameters=28_373_954,
        address=_DIM + "v1.2/stage2_norm_balance_sad_57.9.pth",
        notes="With refinement, without skips; for the port's files of stages 2 and 3. " + _NO_UNPOOLING,
    ),
    _dim(
        name="dim-skip-refine",
        options={"skips": True, "refine": True},
        parameters=28_373_954,
        weights_licence="none published",
        notes="With refinement and skips; for files trained so. There are no published weights. " + _NO_UNPOOLING,
    ),
    Card(
        name="gca",
        builder="mattecli.zoo.gca:GCA",
        paper="Natural Image Matting via Guided Contextual Attention",
        year=2020,
        inputs="image + trimap",
        parameters=25_164_529,
        code_licence="non-commercial (the authors'; this implementation is not theirs)",
        weights_licence="non-commercial (the authors')",
        terms="non-commercial",
        address="https://drive.google.com/file/d/1ti_a46lKEH2Hk2fAB11BbyKfYj0rxNK0/view",
        layout="state_dict beside iter and loss, under module.: encoder, decoder; spectral norms as module.weight_bar",
        notes="gca-dist, trained on Adobe's data; gca-dist-all-data is Drive file 1GrFrV7guwOQB3N1-bx1iByw_LJNYnIw_.",
    ),
    Card(
        name="fba",
        builder="mattecli.zoo.fba:FBA",
        paper="F, B, Alpha Matting",
        year=2020,
        inputs="image + trimap",
        parameters=34_693_031,
        code_licence="MIT",
        weights_licence="non-commercial (Adobe's data)",
        terms="non-commercial",
        address="https://drive.google.com/file/d/1T_oiKDE_biWf2kqexMEN7ObWqtXAzbB1/view",
        layers=True,
        layout="bare state_dict: encoder, decoder; weights before standardisation",
        notes="Gives foreground and background too. Not for ONNX as a whole: the distance to the trimap's regions is "
        "found by OpenCV; FBA.predict, the network proper, exports with sides that are multiples of 48.",
    ),
    _ppmatting(
        name="ppmatting-hrnet18",
        options={"width": 18},
        parameters=24_503_954,
        address=_PPMATTING + "hrnet_w18-human_512.pdparams",
        notes="People. hrnet_w18-human_1024.pdparams, beside it, is for a --size of 1024. " + _PADDED,
    ),
    _ppmatting(
        name="ppmatting-hrnet48",
        options={"width": 48},
        parameters=86_197_934,
        address=_PPMATTING + "hrnet_w48-composition.pdparams",
        notes="Any object, trained on Composition-1k; hrnet_w48-distinctions.pdparams, beside it, on Distinctions-646. "
        + _PADDED,
    ),
    _gfm("tt", "r34", 54_773_316, "1AdtoIdYTLsjXfVe_a50tin0cFwZMSz93"),
    _gfm("ft", "r34", 54_772_739, "1heWT3fodV5so--tG6hoytB11OHBfhd1_"),
    _gfm("bt", "r34", 54_772_739, "1vRWJtD8liZjb7GbNnmJCuO_xN4-bj-2l"),
    _gfm("rim", "r34", 55_220_891),
    _gfm("tt", "r34_2b", 125_061_316, "1Y8dgOprcPWdUgHUPSdue0lkFAUVvW10Q"),
    _gfm("ft", "r34_2b", 125_060_739),
    _gfm("bt", "r34_2b", 125_060_739),
    _gfm("rim", "r34_2b", 125_064_987),
    _gfm("tt", "d121", 45_934_724, "1knbK5uU8AitE5OFpul9FXaQm47pZO0N8"),
    _gfm("ft", "d121", 45_934_147),
    _gfm("bt", "d121", 45_934_147),
    _gfm("rim", "d121", 46_382_299, "1aMY5tJQ79IB-0NJ9WzcTu6ZOQTowiFWv"),
    _gfm("tt", "r101", 495_207_556, "1oQMOfVkuxLujgFEQReWJM95chPlQBTiM"),
    _gfm("ft", "r101", 495_206_979),
    _gfm("bt", "r101", 495_206_979),
    _gfm("rim", "r101", 495_655_131),
    Card(
        name="e2ehim-swint",
        builder="mattecli.zoo.e2ehim:E2EHIM",
        paper="End-to-End Human Instance Matting",
        year=2023,
        inputs="image",
        parameters=70_453_030,
        code_licence="GPL-3.0 (the authors'; this implementation is not theirs)",
        weights_licence="non-commercial (the authors')",
        terms="non-commercial",
        address="https://github.com/aipixel/E2E-HIM",
        layout="bare state_dict: pre_conv, trans, decoder1, c32m … c8m, c8d … c1; conv1 and conv2 are not used",
        notes="Tells up to 20 people apart. The page leads to the file (on Mega). Made for 640×640, and by its "
        "authors' word not for high resolution.",
    ),
    _solved(
        name="closed-form",
        options={"method": "closed-form"},
        paper="A Closed-Form Solution to Natural Image Matting",
        year=2008,
        notes="Any object. Solved, nothing learned; needs the extra mattecli[trimap]. Takes up to 3 KB of memory for "
        "each unknown pixel of the trimap. Not for ONNX: pymatting solves it.",
    ),
    _solved(
        name="knn",
        options={"method": "knn"},
        paper="KNN Matting",
        year=2013,
        notes="Any object. Solved, nothing learned; needs the extra mattecli[trimap]. Takes 4 GB of memory for each "
        "megapixel. Photos above 0.77 go in overlapping tiles, each solved by itself: no seams, but not the matte "
        "of the whole where a tile knows too little, so shrink them (--size). Not for ONNX: pymatting solves it.",
    ),
)
