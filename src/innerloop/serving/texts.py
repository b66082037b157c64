"""What the page says, in English and Chinese; places in braces are filled in. Refusals of the library itself are English."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

from innerloop.meta_learner.own_examples import NAMES


@dataclasses.dataclass(frozen=True)
class Texts:
    """The page's texts in one language."""

    other: str  # a link to the page in the other language
    intro: str
    error: str  # the heading of what went wrong
    trained_on: str
    over_http: str
    show: str
    name: str
    name_hint: str
    draw: str
    wipe: str
    pictures: str
    picture: str
    pictures_of: str
    a_picture: str
    ink: str
    ink_by_paper: str
    ink_dark: str
    ink_light: str
    camera: str
    turn_on: str
    take_picture: str
    take_another: str
    taken: str
    no_camera_here: str
    no_camera: str
    add_taken: str
    rename: str
    rename_class: str
    rename_to: str
    picture_of: str
    take_away: str
    asked: str
    save_task: str
    open_task: str
    opened: str
    opened_without: str
    add_drawing: str
    add_pictures: str
    nothing_yet: str
    start_over: str
    ask: str
    which: str
    answer: str
    so_many: Callable[[int, int], str]  # of pictures, of classes
    second_class: str
    adapted: str
    knows_unknown: str
    tells_badly: str
    calibrated: str
    no_unknown: str
    none_of_these: str
    still_measured: str
    judged: str  # of classes
    judged_values: str
    beside: str  # the baselines after it
    comma: str  # between them
    loses: str
    clearly_better: str
    not_clearly: str
    one_each: str
    not_judged: str
    kept_task: str  # a task file that is served
    baselines: Mapping[str, str]
    numbers: Callable[[int], str]  # of inputs in a row
    columns: str
    any_columns: str
    rows: str
    rows_hint_values: str
    rows_hint_classes: str
    new_rows: str
    new_rows_hint: str
    sentences: str
    sentence: str
    shown_sentences: str
    sentence_hint: str
    new_sentences: str
    go: str
    predictions: str
    adapted_rows: str
    show_kind: str
    pictures_of_kind: str
    more_of_it: str
    guidance: str
    make_more: str
    shown_so_far: str
    made_in: str
    adapted_sentences: str
    ask_sentences: str
    perhaps_none: str
    new_sentence_hint: str
    want_sentences: str
    want_class_of: str
    want_pictures: str
    want_fewer: str
    want_picture: str
    want_drawing: str
    want_photo: str
    want_name: str
    want_other_name: str
    want_row: str
    want_new_row: str
    curve_adapted: str
    curve_spread: str
    curve_rows: str
    want_classes: str


EN = Texts(
    other="[中文](/zh/)",
    error="Error",
    trained_on="{name}, trained on {problem}",
    intro="{name}; what you show it here stays in this tab.",
    over_http="The same over HTTP: `POST /adapt`, `POST /predict`; see [/docs](/docs).",
    show="1. Show it a few classes",
    name="Class",
    name_hint="a name",
    draw="Draw",
    wipe="Clear the drawing",
    pictures="Pictures",
    picture="Picture",
    pictures_of="Pictures of this class",
    a_picture="A picture",
    ink="The ink is",
    ink_by_paper="told by the paper",
    ink_dark="dark on light",
    ink_light="light on dark",
    camera="Camera",
    turn_on="Turn the camera on",
    take_picture="Take the picture",
    take_another="Take another",
    taken="the picture that was taken",
    no_camera_here="Browsers give the camera to pages at localhost or https alone. On a phone, the tab for pictures can take "
    "one too.",
    no_camera="The camera did not start; allow it for this page, and close what else uses it",
    add_taken="Add this picture",
    rename="Rename",
    rename_class="Rename the class {name}",
    rename_to="A new name for the class {name}:",
    picture_of="picture {number} of {name}",
    take_away="Take away picture {number} of {name}",
    asked="What was asked",
    save_task="Save this as a task file",
    open_task="Open a task file",
    opened="Opened: adapted before, to {shown}. {judged}\n\n{unknown}",
    opened_without="Opened: adapted before, to {examples} examples, which cannot be shown here. It can be asked; what you show "
    "it begins a new task. {judged}\n\n{unknown}",
    add_drawing="Add this drawing",
    add_pictures="Add these pictures",
    nothing_yet="Nothing shown yet.",
    start_over="Start over",
    ask="2. Ask it",
    which="Which class is it?",
    answer="Its answer",
    so_many=lambda pictures, classes: (
        f"{pictures} picture{'s' * (pictures > 1)} of {classes} class{'es' * (classes > 1)}"
    ),
    second_class="{shown}. Show it a second class.",
    adapted="Adapted to {shown} in {seconds:.2f} s. {judged}\n\n{unknown}",
    knows_unknown="It says when something is probably none of these: on validation tasks of {ways} classes it knew {kept:.0%} of "
    "their own, and took {accepted:.0%} of others for one of them.",
    tells_badly="It cannot tell when something is none of these: on validation tasks of {ways} classes its AUROC was "
    "{auroc:.2f}, and {least:g} is the least that is relied on.",
    calibrated="Its percentages were off by {ece:.0f} points there on average.",
    no_unknown="It cannot tell when something is none of these, as {why}.",
    none_of_these="**Probably none of these**: less sure than its threshold asks.",
    still_measured="that is still being measured, for some seconds",
    judged="On your own examples, some left out at a time ({judged} judged): it knew {value} ({low} to {high}){beside}.",
    judged_values="On your own rows, some left out at a time ({judged} judged): it is off by {value} ({low} to {high}; root mean "
    "square){beside}.",
    beside="; {others}",
    comma=", ",
    loses="**It loses to {name} on your examples**: use that, show it more, or take a learner trained on tasks more like yours.",
    clearly_better="Better than each of them, beyond chance.",
    not_clearly="Not clearly better than {name}, which needs no training.",
    one_each="How good it is cannot be judged on one example of each class; show it a second of each.",
    not_judged="How good it is was not judged on your own examples.",
    kept_task="This task was adapted before, to {examples} examples. {judged}",
    baselines=NAMES,
    numbers=lambda width: (
        f"Rows of {width} number{'s' * (width > 1)} and a target, separated by commas; new rows without the target."
    ),
    columns="A table with the columns {columns}, as in a CSV file: a header, then the rows; new rows without {targets}.",
    any_columns="A table as in a CSV file: a header, then the rows, the target last; new rows without the target.",
    rows="A few rows of the new task",
    rows_hint_values="day,price\n1,10\n2,12.5\n3,14",
    rows_hint_classes="age,dose,kind\n20,1,a\n60,9,b",
    new_rows="New rows",
    new_rows_hint="one a line; none: your own rows",
    sentences="A few sentences of each class, one a line, as `class: sentence`; then new ones, one a line.",
    sentence="Sentence",
    shown_sentences="Sentences of the new task",
    sentence_hint="travel: book me a flight to Rome",
    new_sentences="New sentences",
    go="Adapt and predict",
    predictions="Predictions",
    adapted_rows="Adapted to {rows} rows in {seconds:.2f} s. {judged}",
    show_kind="1. Show it a few of one kind",
    pictures_of_kind="Pictures of this kind",
    more_of_it="2. See more of the kind",
    guidance="how closely it keeps to what it was shown",
    make_more="Make more",
    shown_so_far="Shown so far: {number}.",
    made_in="{number} new ones in {seconds:.1f} s.",
    adapted_sentences="Adapted to {rows} sentences in {seconds:.2f} s. {judged}",
    ask_sentences="Write new sentences to tell apart.",
    perhaps_none="{name}? Probably none of these",
    new_sentence_hint="one a line",
    want_sentences="expected sentences of a few classes, got none; write them as class: sentence",
    want_class_of="expected lines such as travel: book me a flight, got {line!r}; put the class and a colon before it",
    want_pictures="expected pictures, got none; drop some into the box",
    want_fewer="expected at most {most} more pictures, got {got}; take fewer",
    want_picture="expected a picture, got none; drop one into the box",
    want_drawing="expected a drawing, got an empty canvas; draw something",
    want_photo="expected a picture, got none from the camera; take one",
    want_name="expected a class name, got none; write one above",
    want_other_name="expected a name that no other class has, got {name!r}; choose another",
    want_row="expected a few rows, got none; write some, or open a task file",
    want_new_row="expected new rows, got none, and the task's own are not known here; write some",
    curve_adapted="adapted",
    curve_spread="two deviations",
    curve_rows="your rows",
    want_classes="expected classes to choose from, got none; show it a few first",
)

ZH = Texts(
    other="[English](/)",
    error="没有成功",
    trained_on="{name}（训练任务：{problem}）",
    intro="学习器 {name} 已事先训练好；你在这里给它看的东西只留在这个标签页里。",
    over_http="同样的功能也可通过 HTTP 使用：`POST /adapt`、`POST /predict`，说明见 [/docs](/docs)。",
    show="1. 给它看几个类别",
    name="类别",
    name_hint="名称",
    draw="手绘",
    wipe="清除画面",
    pictures="图片",
    picture="图片",
    pictures_of="这个类别的图片",
    a_picture="一张图片",
    ink="墨迹",
    ink_by_paper="由底色判断",
    ink_dark="浅底深色",
    ink_light="深底浅色",
    camera="摄像头",
    turn_on="打开摄像头",
    take_picture="拍照",
    take_another="再拍一张",
    taken="刚拍的照片",
    no_camera_here="浏览器只允许 localhost 或 https 的页面使用摄像头。在手机上，也可以在“图片”标签页里直接拍照。",
    no_camera="摄像头没有打开；请允许此页面使用，或检查它是否正被占用",
    add_taken="加入这张照片",
    rename="改名",
    rename_class="给类别 {name} 改名",
    rename_to="类别 {name} 的新名称：",
    picture_of="{name} 的第 {number} 张图片",
    take_away="去掉 {name} 的第 {number} 张图片",
    asked="所问的内容",
    save_task="保存为任务文件",
    open_task="打开任务文件",
    opened="已打开：事先已适应{shown}。{judged}\n\n{unknown}",
    opened_without="已打开：事先已适应 {examples} 个样本，这些样本无法在这里显示。可以直接考它；"
    "在这里给它看的东西会开始一个新任务。{judged}\n\n{unknown}",
    add_drawing="加入这幅画",
    add_pictures="加入这些图片",
    nothing_yet="还没有给它看任何东西。",
    start_over="重新开始",
    ask="2. 考考它",
    which="这是哪一类？",
    answer="它的回答",
    so_many=lambda pictures, classes: f"{classes} 个类别的 {pictures} 张图片",
    second_class="已有{shown}。请再给它看第二个类别。",
    adapted="已适应{shown}，用时 {seconds:.2f} 秒。{judged}\n\n{unknown}",
    knows_unknown="如果一个东西多半不属于这些类别，它会说出来：在 {ways} 个类别的验证任务上，它认得其中 {kept:.0%} 的已知输入，"
    "并把 {accepted:.0%} 的其他类别误当成已知类别。",
    tells_badly="它无法判断一个东西是否不属于这些类别：在 {ways} 个类别的验证任务上，它的 AUROC 是 {auroc:.2f}，"
    "至少要 {least:g} 才可靠。",
    calibrated="在那些任务上，它给出的百分比平均偏差 {ece:.0f} 个百分点。",
    no_unknown="它无法判断一个东西是否不属于这些类别（{why}）。",
    none_of_these="**多半不属于这些类别**：把握低于阈值。",
    still_measured="阈值还在测量，需要几秒钟",
    judged="用你自己的样本检验（每次留出一部分，共检验 {judged} 个）：它认对了 {value}（{low} 到 {high}）{beside}。",
    judged_values="用你自己的数据检验（每次留出一部分，共检验 {judged} 行）：均方根误差是 {value}（{low} 到 {high}）{beside}。",
    beside="；{others}",
    comma="，",
    loses="**在你的样本上，它不如{name}**：可以直接用{name}，多给几个样本，或换一个在更相近的任务上训练过的学习器。",
    clearly_better="明显好于上面每一种简单方法。",
    not_clearly="并不明显好于{name}，而后者不需要训练。",
    one_each="每类只有一个样本，无法检验它有多准；请每类再给一个。",
    not_judged="没有用你自己的样本检验过它有多准。",
    kept_task="这个任务事先已适应了 {examples} 个样本。{judged}",
    baselines={
        "class_mean": "类均值",
        "nearest": "最近样本",
        "mean": "平均值",
        "ridge": "岭回归",
        "logistic": "逻辑回归",
        "forest": "随机森林",
    },
    numbers=lambda width: f"每行 {width} 个数和一个目标值，用逗号隔开；新的行不写目标值。",
    columns="像 CSV 文件那样的表格，列为 {columns}：先写表头，再写各行；新的行不写 {targets}。",
    any_columns="像 CSV 文件那样的表格：先写表头，再写各行，目标列放在最后；新的行不写目标列。",
    rows="新任务的几行数据",
    rows_hint_values="day,price\n1,10\n2,12.5\n3,14",
    rows_hint_classes="age,dose,kind\n20,1,a\n60,9,b",
    new_rows="新的行",
    new_rows_hint="每行一条；不填则用左边的行",
    sentences="先写每个类别的几句话，每行一句，格式为 `类别: 句子`；再写新的句子，每行一句。",
    sentence="句子",
    shown_sentences="新任务的例句",
    sentence_hint="旅行: 帮我订一张去罗马的机票",
    new_sentences="新的句子",
    go="适应并预测",
    predictions="预测结果",
    adapted_rows="已适应 {rows} 行数据，用时 {seconds:.2f} 秒。{judged}",
    show_kind="1. 给它看几张同一种图",
    pictures_of_kind="这一种的图片",
    more_of_it="2. 看它画出更多",
    guidance="与所给图片的贴近程度",
    make_more="再画一些",
    shown_so_far="已展示 {number} 张。",
    made_in="新画了 {number} 张，用时 {seconds:.1f} 秒。",
    adapted_sentences="已适应 {rows} 个句子，用时 {seconds:.2f} 秒。{judged}",
    ask_sentences="请写几个新的句子让它分辨。",
    perhaps_none="{name}？多半不属于这些类别",
    new_sentence_hint="每行一句",
    want_sentences="没有例句；请按“类别: 句子”的格式写几句",
    want_class_of="每行应写成“类别: 句子”，现在是 {line!r}；请在前面加上类别和冒号",
    want_pictures="没有图片；请把图片拖进框里",
    want_fewer="最多还能加入 {most} 张图片，现在有 {got} 张；请减少一些",
    want_picture="没有图片；请把一张图片拖进框里",
    want_drawing="画布是空的；请先画点什么",
    want_photo="还没有照片；请先拍一张",
    want_name="没有类别名称；请在上面写一个",
    want_other_name="已经有名为 {name!r} 的类别；请换一个名称",
    want_row="没有数据；请写几行，或打开一个任务文件",
    want_new_row="没有新的行，任务文件里也没有保存原来的行；请写几行",
    curve_adapted="adapted",
    curve_spread="two deviations",
    curve_rows="your rows",
    want_classes="还没有可选的类别；请先给它看几个",
)
