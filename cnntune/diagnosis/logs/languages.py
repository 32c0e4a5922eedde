"""Names in other languages, as the English words that `names` knows.

Assumed is that a log uses one word of these languages for each meaning (`Verlust`, `损失`): whole
words in European languages and Turkish, written with or without accents, and any part of a name in
Chinese, Japanese and Korean, which have no spaces or write endings at their words.
"""

import re
import unicodedata
from functools import lru_cache

ACCENTS = re.compile(r"[\u0300-\u036f]")
WORD = re.compile(r"(?<![^\W_.])[^\W\d_]+(?![^\W_])")  # that is not a part of a number
HALF_WIDTH = str.maketrans(
    "：，（）％；｜＝łŁı", ":,()%;|=lLi"
)  # two letters have no accent to drop

# German and Dutch compounds such as `Trainingsverlust` and `validatieverlies` hold these as a part.
STEMS = {
    "loss": r"verlust|verlies",
    "accuracy": r"(?:treffer)?genauigkeit|nauwkeurigheid",
    "train": r"trainings?(?=verlust|genauigkeit|fehler|verlies|nauwkeurigheid)",
    "validation": r"validierungs?|validatie",
    "error": r"(?:fehlerrate|fehler)(?=\b|_)",
}
# Without accents; ends in `*` where any ending is meant.
WORDS = {
    "loss": (
        "perte pertes perdida perdidas perda perdas perdita perdite kosten потер* лосс"
        " strata straty verlies kayip kaybi kayiplari"
    ),
    "accuracy": (
        "exactitude exactitud acuracia acuratezza accuratezza korrektklassifizierungsrate точност*"
        " dokladnosc* dokladnosci nauwkeurigheid juistheid dogruluk dogrulugu"
    ),
    "train": (
        "entrainement apprentissage entrenamiento treinamento treino addestramento allenamento"
        " обуч* трениров* treningow* uczen* treningu egitim"
    ),
    "validation": (
        "validierung validacion validacao validazione convalida валидац* проверк* проверочн*"
        " walidac* validatie dogrulama gecerleme"
    ),
    "test": "prueba pruebas teste testes тест* testow* testowa sinama",
    "epoch": "epoche epochen epoque epoques epoca epocas эпох* epoka epoki epok tijdvak donem",
    "error": "erreur erreurs erro erros errore errori ошибк* blad fout hata",
    "step": "schritt etape paso passo iteracion iteracao iterazione шаг* итерац*",
    "lr": "lernrate",
    "best": (
        "beste bester bestes meilleur meilleure mejor mejores melhor melhores migliore migliori"
        " лучш*"
    ),
    "time": "zeit dauer temps duree tiempo tempo время",
    "mean": "mittel durchschnitt mittlere moyenne moyen promedio media средн*",
}
# With its accent, French `précision` (and Spanish `precisión`, ...) is the accuracy.
ACCENTED = re.compile(r"pr[ée]cisi[óo]n|precis[ãa]o", re.IGNORECASE)
# The longest first: `学习率` is the learning rate, but `学習` training.
ASIAN_WORDS = {
    "lr": "学习率 學習率 学習率 학습률",
    "loss": "损失函数值 损失函数 损失值 损失 損失関数 損失値 損失 ロス 손실값 손실률 손실",
    "accuracy": "准确率 准确度 準確率 準確度 正确率 正確率 精确度 精度 正解率 정확도",
    "precision": "精确率 適合率 정밀도",
    "recall": "召回率 再現率 재현율",
    "train": "训练集 训练 訓練集 訓練 トレーニング 学習 훈련 학습",
    "validation": "验证集 验证 驗證集 驗證 校验 検証 評価 评估 評估 검증 평가",
    "test": "测试集 测试 測試集 測試 テスト 테스트 시험",
    "epoch": "轮次 轮数 纪元 世代 周期 エポック 에포크 에폭",
    "step": "迭代 步数 ステップ 스텝 단계",
    "avg": "平均 평균",
    "best": "最佳 最好 最优 最高 最低 最良 최고 최적",
    "time": "耗时 用时 时间 時間 시간",
}
ORDINAL = re.compile(
    r"第 ?(\d+)(?: ?/ ?(\d+))? ?(?:个|個)? ?(?:轮|輪|期|代|次训练|epochs?|世代|エポック)"
)
IS = re.compile(r"[为為是は] ?(?=[-+.\d])")  # `损失为0.5`
ELISION = re.compile(r"(?<!\w)[dl]['\u2019](?=\w)", re.IGNORECASE)  # `perte d'entraînement`
NOT_ASCII = re.compile(r"\w*[^\x00-\x7f]\w*")
LATIN = re.compile(r"[a-z]{4,}")  # of WORDS, all have four letters or more
ASCII_STEMS = (
    *("verlust", "genauigkeit", "validierung", "fehler"),
    *("verlies", "nauwkeurigheid", "validatie"),
)
FOREIGN_LETTER = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3]")


def _plain(text: str) -> str:
    """The text with its words without accents (`й` is `и`), and punctuation of half width.

    Numbers stay as they are: `0.2é9` must not become `0.2e9`.
    """
    text = text.translate(HALF_WIDTH)
    return text if text.isascii() else WORD.sub(_without_accents, text)


def _without_accents(found: re.Match[str]) -> str:
    apart = unicodedata.normalize("NFD", found[0])
    return unicodedata.normalize("NFC", ACCENTS.sub("", apart))


def _alternatives(words: str) -> str:
    parts = (re.escape(_plain(word)).replace(r"\*", r"\w*") for word in words.split())
    return "|".join(parts)


BOUNDARY = r"(?<![^\W_])", r"(?![^\W_])"  # of a word; `_` separates words too
EUROPEAN = re.compile(
    "|".join(
        [f"(?P<stem_{english}>{pattern})" for english, pattern in STEMS.items()]
        + [
            f"(?P<word_{english}>{BOUNDARY[0]}(?:{_alternatives(words)}){BOUNDARY[1]})"
            for english, words in WORDS.items()
        ]
    ),
    re.IGNORECASE,
)
ASIAN = {_plain(word): english for english, words in ASIAN_WORDS.items() for word in words.split()}
ASCII_WORDS = frozenset(LATIN.findall(" ".join(WORDS.values())))
ASIAN_WORD = re.compile("|".join(sorted(map(re.escape, ASIAN), key=len, reverse=True)))


@lru_cache(maxsize=4096)
def english(text: str) -> str:
    """A name or line of a log with the words that are known in other languages in English.

    Text that holds none of them, and only letters of English, is returned as it is.
    """
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)
        text = _plain(ACCENTED.sub(_accuracy, text))
        if FOREIGN_LETTER.search(text):
            text = ORDINAL.sub(_epoch, text)
            text = IS.sub(" = ", text)
            text = ASIAN_WORD.sub(lambda found: f" {ASIAN[found[0]]} ", text)
    elif _is_english(text):
        return text
    return EUROPEAN.sub(_word, ELISION.sub("", text))


def written_in(text: str) -> bool:
    """Whether one of the words in a text that are not ASCII is known."""
    words = " ".join(NOT_ASCII.findall(text))
    return english(words) != _plain(words)


def _is_english(text: str) -> bool:
    """Whether an ASCII text has none of the words; a fast test, since every line needs it."""
    text = text.lower()
    return ASCII_WORDS.isdisjoint(LATIN.findall(text)) and not any(
        stem in text for stem in ASCII_STEMS
    )


def _accuracy(found: re.Match[str]) -> str:
    return found[0] if found[0].isascii() else "accuracy"


def _epoch(found: re.Match[str]) -> str:
    return f" epoch {found[1]}" + (f"/{found[2]} " if found[2] else " ")


def _word(found: re.Match[str]) -> str:
    """The English word; a part of a compound is set apart, so that the rest is a word too."""
    kind, _, word = str(found.lastgroup).partition("_")
    return f" {word} " if kind == "stem" else word
