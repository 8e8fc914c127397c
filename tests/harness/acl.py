"""POSIX ACLs as the kernel's extended attributes have them."""
import os
import struct

ACCESS, DEFAULT = "system.posix_acl_access", "system.posix_acl_default"
TAGS = {"u": 0x01, "user": 0x02, "g": 0x04, "group": 0x08, "mask": 0x10, "o": 0x20}
WORDS = {tag: word for word, tag in TAGS.items()}
NO_ID = 0xFFFFFFFF


def pack(text):
    """"u:7 user:1000:5 g:5 mask:7 o:0" in the kernel's form."""
    data = struct.pack("<I", 2)
    for item in text.split():
        word, *number, perm = item.split(":")
        data += struct.pack("<HHI", TAGS[word], int(perm), int(number[0]) if number else NO_ID)
    return data


def unpack(data):
    items = []
    for tag, perm, number in struct.iter_unpack("<HHI", data[4:]):
        items.append(f"{WORDS[tag]}:{perm}" if number == NO_ID else f"{WORDS[tag]}:{number}:{perm}")
    return " ".join(items)


def set_acl(path, text, name=ACCESS):
    os.setxattr(path, name, pack(text))


def get_acl(path, name=ACCESS):
    """Its text, or None where there is none."""
    return unpack(os.getxattr(path, name)) if name in os.listxattr(path) else None
