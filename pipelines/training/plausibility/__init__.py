"""Judging the check of plausibility, on synthetic heads with MS or with other lesions, and on real scans."""
