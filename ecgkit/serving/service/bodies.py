"""The body of a request as a job."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import PurePosixPath
from typing import Literal

from pydantic import ValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request

from ecgkit.serving.service.schemas import ExplainChoices, FileChoices, PageChoices, explain
from ecgkit.serving.service.settings import MOST_FILES
from ecgkit.serving.service.work import JSON, Job

FIELDS: dict[str, type[FileChoices]] = {"dashboard": PageChoices, "explain": ExplainChoices}
MOST_FIELDS, LARGEST_FIELD = 32, 2**16


async def read_job(request: Request, kind: Literal["predict", "batch", "dashboard", "explain"]) -> Job:
    """Read a request.

    Parameters
    ----------
    request : Request
        With JSON, which a worker takes apart, or a form with files.
    kind : {"predict", "batch", "dashboard", "explain"}
        What is asked.

    Returns
    -------
    Job

    Raises
    ------
    HTTPException
        If it is neither, or the form cannot be read.
    """
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media == JSON:
        return Job(kind, await request.body())
    if media != "multipart/form-data":
        raise HTTPException(415, f"the content type is {media[:80] or 'missing'}: send {JSON} or multipart/form-data")
    files: dict[str, bytes] = {}
    fields: dict[str, str] = {}
    async with _form(request) as form:
        for key, value in form.multi_items():
            if isinstance(value, UploadFile):
                name = PurePosixPath((value.filename or "").replace("\\", "/")).name or "ecg"
                if name in files:
                    raise HTTPException(422, f"two files have the name {name}: give each a name of its own")
                files[name] = await value.read()
            elif key in ("file", "files"):
                raise HTTPException(422, f"{key} is a text: send the file itself, with curl as --form {key}=@ecg.xml")
            elif value:
                fields[key] = value
    if not files:
        raise HTTPException(422, "the form has no file: send it as file")
    try:
        choices = FIELDS.get(kind, FileChoices).model_validate(fields)
    except ValidationError as error:
        raise HTTPException(422, explain(error)) from error
    return Job(kind, files, choices.model_dump())


@asynccontextmanager
async def _form(request: Request) -> AsyncIterator[FormData]:
    """Open a form, and remove what it keeps in temporary files at the end."""
    try:
        form = await request.form(max_files=MOST_FILES, max_fields=MOST_FIELDS, max_part_size=LARGEST_FIELD)
    except HTTPException as error:
        if error.status_code != 400:
            raise
        raise HTTPException(422, f"the form cannot be read: {error.detail}") from error
    try:
        yield form
    finally:
        await form.close()
