// SPDX-License-Identifier: Apache-2.0

/**
 * Cuts a stream of text into its lines, without the line ends; an unfinished last line is dropped, as it is no event.
 *
 * A line may be megabytes long and come in thousands of chunks: each chunk is looked at once.
 */
export async function* lines(chunks: AsyncIterable<string>): AsyncGenerator<string, void, undefined> {
  let parts: string[] = [];
  for await (const chunk of chunks) {
    let start = 0;
    for (let end = chunk.indexOf("\n"); end >= 0; end = chunk.indexOf("\n", start)) {
      parts.push(chunk.slice(start, end));
      start = end + 1;
      const line = parts.join("");
      parts = [];
      if (line !== "" && line !== "\r") yield line;
    }
    if (start < chunk.length) parts.push(chunk.slice(start));
  }
}
