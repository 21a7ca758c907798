"""The recipes that can be asked for over HTTP are those that training has, and the UI offers each."""

import re
from typing import get_args

from backend.schemas.trainings import Recipe
from scripts.local.config import REPOSITORY
from training.recipe import RECIPES


def test_the_api_and_the_ui_offer_every_recipe_and_no_other() -> None:
    form = (REPOSITORY / "ui/src/components/TrainForm.tsx").read_text()
    (choice,) = re.findall(r'<select name="recipe">(.*?)</select>', form, re.DOTALL)
    assert list(get_args(Recipe)) == re.findall(r'<option value="(\w+)"', choice) == list(RECIPES)
