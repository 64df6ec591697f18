"""What a file is by its first bytes, whatever it is called."""

import re
import zipfile
from pathlib import Path

from ...errors import FileFormatError

SAVE = "save the network's state_dict() with safetensors or torch.save and give that file"
SIGNS = {  # how a file, or the list of an archive's members, begins: what it is, and what to do
    rb"\x80": "",
    rb"PK.*(constants\.pkl|\ncode/|/code/)": "a TorchScript archive: save "
    "torch.jit.load(FILE).state_dict() with torch.save and give that file",
    rb"PK.*data\.pkl": "",
    rb"PK.*\.npy": "an archive of NumPy arrays: " + SAVE,
    rb"PK.*\.h5": "a Keras archive: " + SAVE,
    rb"PK": "a zip archive, but not of weights: " + SAVE,
    rb"$": "empty: copy or download it again",
    rb"version https://git-lfs": "a Git-LFS pointer, not the file: run `git lfs pull`",
    rb"(\xef\xbb\xbf)?\s*<": "a web page or XML: the download failed, so fetch the file again",
    rb"\x1f\x8b|BZh|\xfd7zXZ|7z\xbc\xaf|Rar!|.{257}ustar": "a packed archive: unpack it",
    rb"\x89HDF": "an HDF5 file, as Keras writes it: " + SAVE,
    rb"\x93NUMPY": "a NumPy array: " + SAVE,
    rb".{4}TFL3": "a TensorFlow Lite model: " + SAVE,
    rb"\x08[\x00-\x20][\x12\x22:]": "an ONNX or TensorFlow graph: " + SAVE,
    rb"\s*[{\[]": "JSON text: give the file of weights beside it",
    rb"": "neither safetensors nor of torch.save: " + SAVE,
}


def kind_of(path: Path) -> str:
    """How a file is to be read: "safetensors", "zip" (of torch.save) or "pickle".

    Raises:
        FileFormatError: for anything else, by name, and for an archive that unpacks to more than
            it is, which torch.save never writes.
    """
    with path.open("rb") as file:
        head = file.read(300)
    if head[8:9] == b"{":
        return "safetensors"
    if zipped := head[:2] == b"PK":
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
        head = b"\n".join([b"PK", *(member.filename.encode() for member in members)])
    what = next(words for sign, words in SIGNS.items() if re.match(sign, head, re.DOTALL))
    if zipped and not what:
        size = sum(member.file_size for member in members)
        if size > path.stat().st_size or any(member.compress_type for member in members):
            what = "a packed archive, as torch.save never writes: " + SAVE
    if what:
        raise FileFormatError(f"{path} is {what}")
    return "zip" if zipped else "pickle"
