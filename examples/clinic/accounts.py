"""The accounts, another application, which a webhook tells of each invoice: `uvicorn examples.clinic.accounts:app`."""

import base64
import hashlib
import hmac
import os
import time

from fastapi import FastAPI, HTTPException, Request

app = FastAPI()
key = base64.b64decode(os.environ["ACCOUNTS_SECRET"].removeprefix("whsec_"))
booked: dict[str, int] = {}


@app.post("/invoices", status_code=204)
async def told(request: Request) -> None:
    """What Standard Webhooks sign. A message may come twice, so an invoice is booked by its visit."""
    body = await request.body()
    name, sent, signature = (request.headers.get(f"webhook-{part}", "") for part in ("id", "timestamp", "signature"))
    signed = b"v1," + base64.b64encode(hmac.digest(key, f"{name}.{sent}.".encode() + body, hashlib.sha256))
    if not hmac.compare_digest(signature.encode(), signed) or abs(time.time() - int(sent)) > 300:
        raise HTTPException(401, "Not from syncd, or an old message that somebody sends again.")
    for change in (await request.json())["data"]["changes"]:
        if change["values"].get("amount") is not None:
            booked[change["id"]] = change["values"]["amount"]
