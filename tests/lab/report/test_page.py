"""The report is one page, with its plots inside."""

from infobatch.lab.report import read_comparison, to_markdown, write_report
from infobatch.lab.report.verdict import verdict


def test_the_report_is_one_page_with_its_plots_inside(comparison, tmp_path):
    results = read_comparison(comparison.path)
    page = write_report(results, tmp_path)
    html = page.read_text()
    assert html.count("data:image/png;base64,") == 4
    assert "http://" not in html
    assert "https://" not in html
    assert "infobatch compare --data digits" in html
    assert verdict(results)[:20] in html
    for name in ("overlay.png", "curves.png", "kept.png", "scores.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    text = (tmp_path / "report.md").read_text()
    assert text.startswith(to_markdown(results).rstrip())
    assert "![curves](curves.png)" in text
