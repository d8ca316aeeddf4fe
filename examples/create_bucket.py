"""Create the bucket of ELACSYM_STORAGE where it does not exist; AWS_* say where and with which keys.

A node does not do this: a bucket with a typing error in its name is to be found out, not created.
"""

import os
from urllib.parse import urlsplit

from botocore.exceptions import ClientError
from botocore.session import get_session

storage = urlsplit(os.environ["ELACSYM_STORAGE"])
if storage.scheme != "s3":
    raise SystemExit(f"ELACSYM_STORAGE: {storage.geturl()} is no s3://bucket/prefix")
endpoint_url = os.environ.get("AWS_ENDPOINT_URL")
region = os.environ.get("AWS_REGION", "us-east-1")
s3 = get_session().create_client("s3", region_name=region, endpoint_url=endpoint_url)
where = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
try:
    s3.create_bucket(Bucket=storage.netloc, **where)
except ClientError as error:
    if error.response["Error"]["Code"] not in {"BucketAlreadyOwnedByYou", "BucketAlreadyExists"}:
        raise
print(f"bucket {storage.netloc} exists")
