"""The demonstration: phantom studies, the PACS that it plays, and the verdict on what came back."""
