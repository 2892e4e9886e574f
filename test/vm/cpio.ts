// SPDX-License-Identifier: Apache-2.0

export interface ArchiveFile {
  /** Without a leading slash; folders are made as needed. */
  readonly path: string;
  readonly content: Uint8Array;
}

const TRAILER = "TRAILER!!!";
const [FOLDER, PROGRAM] = [0o040755, 0o100755];

/** An archive as the kernel unpacks it for its first file system. Source: cpio(5), new ASCII format; early-userspace/buffer-format. */
export function renderCpio(files: readonly ArchiveFile[]): Uint8Array {
  const folders = new Set(files.flatMap(({ path }) => parentsOf(path)));
  const none = new Uint8Array();
  let inode = 1;
  return Buffer.concat([
    ...[...folders].map((path) => entry(path, FOLDER, none, inode++)),
    ...files.map(({ path, content }) => entry(path, PROGRAM, content, inode++)),
    entry(TRAILER, 0, none, 0),
  ]);
}

function parentsOf(path: string): readonly string[] {
  const parts = path.split("/").slice(0, -1);
  return parts.map((_, i) => parts.slice(0, i + 1).join("/"));
}

function entry(path: string, mode: number, content: Uint8Array, inode: number): Uint8Array {
  const name = Buffer.from(`${path}\0`);
  // Inode, mode, user, group, links, time, size, two device numbers of two parts each, length of the name, checksum.
  const fields = [inode, mode, 0, 0, 1, 0, content.length, 0, 0, 0, 0, name.length, 0];
  const head = `070701${fields.map((field) => field.toString(16).padStart(8, "0")).join("")}`;
  return Buffer.concat([padded(Buffer.concat([Buffer.from(head), name])), padded(content)]);
}

/** To a multiple of four bytes. */
function padded(bytes: Uint8Array): Uint8Array {
  return Buffer.concat([bytes, Buffer.alloc((4 - (bytes.length % 4)) % 4)]);
}
