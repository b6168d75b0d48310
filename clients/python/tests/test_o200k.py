"""The estimates against the tokenizer o200k of OpenAI, by kind of text, before and after calibration."""

from __future__ import annotations

import base64
import json
import random

import pytest
import quicktok
from conftest import ROOT

from tope import Estimator, Usage
from tope.estimate import count

ENCODING = quicktok.get_encoding("o200k_base")

LANGUAGES = {
    "German": (
        "Der Preis eines Aufrufs ist erst nach dem Aufruf bekannt. Wenn ein Programm vorher einen "
        "Zähler prüft und ihn nachher erhöht, bestehen Aufrufe, die zur gleichen Zeit kommen, alle "
        "die Prüfung. Deshalb reserviert das Programm höchstens so viel, wie der Aufruf kosten "
        "kann, und bucht danach die wirklichen Kosten. Übrige Einheiten werden wieder frei, sobald "
        "die Abrechnung geschehen ist."
    ),
    "French": (
        "Le prix d'un appel n'est connu qu'après l'appel. Si un programme vérifie un compteur "
        "avant l'appel et l'augmente après, les agents qui appellent en même temps réussissent "
        "tous la vérification. C'est pourquoi le système réserve le maximum, puis enregistre le "
        "coût réel, et libère ce qui reste."
    ),
    "Czech": (
        "Cena volání je známa až po volání. Pokud program předem zkontroluje počítadlo a zvýší je "
        "teprve potom, projdou kontrolou všichni agenti, kteří volají ve stejnou dobu. Proto "
        "služba nejprve rezervuje nejvyšší možné množství a poté zaúčtuje skutečné náklady."
    ),
    "Russian": (
        "Цена вызова известна только после вызова. Если программа проверяет счётчик до "
        "вызова и увеличивает его после, все агенты, которые обращаются одновременно, "
        "проходят проверку. Поэтому служба сначала резервирует наибольшее количество, а "
        "затем списывает настоящие расходы."
    ),
    "Greek": (
        "Η τιμή μιας κλήσης είναι γνωστή μόνο μετά την κλήση. Αν ένα πρόγραμμα ελέγχει "
        "έναν μετρητή πριν από την κλήση και τον αυξάνει μετά, όλοι οι πράκτορες που "
        "καλούν ταυτόχρονα περνούν τον έλεγχο."
    ),
    "Arabic": (
        "سعر الاستدعاء لا يعرف إلا بعد الاستدعاء. إذا فحص البرنامج العداد قبل الاستدعاء "
        "وزاده بعده فإن جميع الوكلاء الذين يستدعون في الوقت نفسه يجتازون الفحص. لذلك "
        "تحجز الخدمة أكبر كمية ممكنة ثم تسجل التكلفة الحقيقية."
    ),
    "Hindi": (
        "किसी कॉल की कीमत कॉल के बाद ही पता चलती है। यदि कोई प्रोग्राम कॉल से पहले गिनती "
        "जाँचता है और बाद में उसे बढ़ाता है, तो एक ही समय पर कॉल करने वाले सभी एजेंट "
        "जाँच में सफल हो जाते हैं। इसलिए सेवा पहले अधिकतम मात्रा आरक्षित करती है।"
    ),
    "Thai": (
        "ราคาของการเรียกจะทราบได้หลังจากการเรียกเท่านั้น "
        "หากโปรแกรมตรวจสอบตัวนับก่อนการเรียกและเพิ่มค่าหลังจากนั้น "
        "ตัวแทนทั้งหมดที่เรียกพร้อมกันจะผ่านการตรวจสอบ"
    ),
    "Chinese": (
        "一次调用的价格只有在调用之后才知道。如果程序在调用之前检查计数器,并在调用之后增加计数器,"
        "那么同时调用的所有代理都会通过检查。因此系统先预留最大的数量,然后再记录实际的费用,并释放"
        "剩余的额度。"
    ),
    "Japanese": (
        "呼び出しの価格は、呼び出しの後でしか分かりません。プログラムが呼び出しの前にカウンターを確"
        "認し、後で増やすと、同時に呼び出すすべてのエージェントが確認に合格します。そのため、まず最"
        "大量を予約し、その後で実際の費用を記録します。"
    ),
    "Korean": (
        "호출의 가격은 호출이 끝난 뒤에야 알 수 있습니다. 프로그램이 호출 전에 카운터를 확인하고 나중에 "
        "올리면 동시에 호출하는 모든 에이전트가 "
        "확인을 통과합니다. 그래서 서비스는 먼저 최대량을 예약하고 그 다음에 실제 비용을 기록합니다."
    ),
}


def texts() -> dict[str, str]:
    chance = random.Random(1)
    rows = [{"id": n, "name": f"user {n}", "tags": ["a", "b"], "score": n * 1.37} for n in range(100)]
    return {
        "English": (ROOT / "docs/guide.md").read_text()[:8_000],
        "Rust": (ROOT / "src/grpc/status.rs").read_text()[:8_000],
        "Python": (ROOT / "scripts/package").read_text()[:8_000],
        "JSON": json.dumps(rows)[:6_000],
        "digits": " ".join(str(chance.randrange(10**9)) for _ in range(300)),
        "base64": base64.b64encode(chance.randbytes(3_000)).decode(),
        "hex": chance.randbytes(1_500).hex(),
        **LANGUAGES,
    }


@pytest.mark.parametrize(("kind", "text"), texts().items())
def test_an_estimate_is_never_far_too_low(kind: str, text: str) -> None:
    """An estimate that is too low lets calls pass for which the quota does not suffice. So most are too high."""
    error = count(text) / len(ENCODING.encode(text)) - 1
    assert -0.3 <= error <= 1.1, f"{kind}: {error:+.0%}"


def slices(text: str) -> list[str]:
    """Cuts prompts of different lengths out of a text that is repeated."""
    chance = random.Random(2)
    long = (text + " ") * (1 + 20_000 // len(text))
    found = []
    for _ in range(200):
        at, length = chance.randrange(10_000), chance.randrange(300, 3_000)
        found.append(long[at : at + length])
    return found


@pytest.mark.parametrize(("kind", "text"), texts().items())
def test_after_calibration_an_estimate_is_close_and_covers_most_calls(kind: str, text: str) -> None:
    estimator = Estimator()
    learned, judged = slices(text)[:100], slices(text)[100:]
    for prompt in learned:
        estimate = estimator.call(prompt, model="m")
        estimator.learn("m", estimate.kind, estimate.raw, Usage(len(ENCODING.encode(prompt)), 1))
    ratios = [estimator.call(prompt, model="m").input / len(ENCODING.encode(prompt)) for prompt in judged]
    covered = sum(ratio >= 0.99 for ratio in ratios) / len(ratios)
    assert covered >= 0.75, f"{kind}: {covered:.0%} are covered"
    assert sum(ratios) / len(ratios) <= 1.25, f"{kind}: {sum(ratios) / len(ratios):.2f} on average"
