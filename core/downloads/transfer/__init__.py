"""Transfer of one file, from its connections to the verified blob.

`file_transfer.py` resumes a partial file and hashes it with `verifier.py`; `blobs.py` publishes it.
"""
