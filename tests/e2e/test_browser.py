"""The UI in a browser: uploads, live labels, the history, the documentation."""

import httpx
from playwright.async_api import Page, expect

from scripts.local.config import Config
from tests.conftest import SAMPLES


async def test_an_image_dropped_on_the_page_gets_its_label(page: Page) -> None:
    await page.goto("/")
    await expect(page.locator(".connection")).to_contain_text("Live")
    image = (SAMPLES / "ship.jpg").read_bytes()
    transfer = await page.evaluate_handle(
        """bytes => {
            const transfer = new DataTransfer()
            transfer.items.add(new File([new Uint8Array(bytes)], "my ship.jpg", { type: "image/jpeg" }))
            return transfer
        }""",
        list(image),
    )
    await page.locator("input[type=file]").locator("..").dispatch_event("drop", {"dataTransfer": transfer})
    card = page.locator(".card", has_text="my ship.jpg")
    await expect(card.locator(".headline")).to_contain_text("ship")
    await expect(page.locator(".history li", has_text="my ship.jpg")).to_contain_text("ship")


async def test_a_file_that_is_no_image_is_refused_and_its_neighbour_is_classified(page: Page) -> None:
    await page.goto("/")
    await page.set_input_files(
        "input[type=file]",
        [
            {"name": "notes.png", "mimeType": "image/png", "buffer": b"just text"},
            {"name": "frog.jpg", "mimeType": "image/jpeg", "buffer": (SAMPLES / "frog.jpg").read_bytes()},
        ],
    )
    refused = page.locator(".card", has_text="notes.png")
    await expect(refused).to_contain_text("Not a supported image")
    await expect(refused).to_contain_text("Convert")
    await expect(page.locator(".card", has_text="frog.jpg").locator(".headline")).to_contain_text("frog")


async def test_an_upload_of_another_client_appears_live_in_the_browser(page: Page, system: Config) -> None:
    await page.goto("/")
    await expect(page.locator(".connection")).to_contain_text("Live")
    files = {"file": ("from curl.jpg", (SAMPLES / "horse.jpg").read_bytes())}
    async with httpx.AsyncClient(base_url=system.address) as client:
        await client.post("/api/predict", files=files)
    await expect(page.locator(".history li", has_text="from curl.jpg")).to_contain_text("horse")


async def test_the_api_documentation_loads_nothing_from_other_hosts(page: Page, system: Config) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    await page.goto("/docs")
    await expect(page.locator(".swagger-ui")).to_contain_text("/api/predict")
    hosts = {httpx.URL(url).netloc for url in asked if url.startswith("http")}
    assert hosts == {httpx.URL(system.address).netloc}


async def test_a_person_corrects_a_label_downloads_the_history_and_removes_an_entry(page: Page) -> None:
    await page.goto("/")
    await expect(page.locator(".connection")).to_contain_text("Live")
    buffer = (SAMPLES / "deer.jpg").read_bytes()
    await page.set_input_files(
        "input[type=file]", {"name": "to remove.jpg", "mimeType": "image/jpeg", "buffer": buffer}
    )
    entry = page.locator(".history li", has_text="to remove.jpg")
    await expect(entry).to_contain_text("deer")
    await entry.get_by_label("Correct label").select_option("horse")
    await page.reload()
    await expect(entry.get_by_label("Correct label")).to_have_value("horse")
    async with page.expect_download() as started:
        await page.get_by_role("link", name="Download as CSV").click()
    text = (await (await started.value).path()).read_text()
    assert [line for line in text.splitlines() if "to remove.jpg" in line and ",horse," in line]
    page.on("dialog", lambda dialog: dialog.accept())
    await entry.get_by_role("button", name="Remove").click()
    await expect(entry).to_have_count(0)
    await page.reload()
    await expect(page.locator(".history")).to_have_attribute("aria-busy", "false")
    await expect(entry).to_have_count(0)
