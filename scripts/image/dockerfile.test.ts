// SPDX-License-Identifier: Apache-2.0
import { existsSync, globSync, readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { mainOf, ROLES } from "./roles.ts";
import { parsePackages, renderSBOM } from "./sbom.ts";

/** Instructions, continuation lines joined and comments left out. */
const INSTRUCTIONS = readFileSync("Dockerfile", "utf8")
  .replace(/^#.*\n/gm, "")
  .replaceAll("\\\n", " ")
  .split("\n")
  .map((line) => line.trim())
  .filter((line) => line !== "");

/** Sources of the COPYs from the build context. */
const SOURCES = INSTRUCTIONS.filter((line) => line.startsWith("COPY ") && !line.includes("--from=")).flatMap((line) =>
  line
    .split(/\s+/)
    .slice(1, -1)
    .filter((word) => !word.startsWith("--")),
);

/** What Docker leaves out of the build context: the last line that matches decides. */
function isIgnored(path: string): boolean {
  let ignored = false;
  for (const line of readFileSync(".dockerignore", "utf8")
    .split("\n")
    .filter((text) => text && !text.startsWith("#"))) {
    const pattern = line.replace(/^!/, "");
    const expression = new RegExp(`^${pattern.replaceAll(".", "\\.").replaceAll("*", "[^/]*")}(/|$)`);
    if (expression.test(path)) ignored = !line.startsWith("!");
  }
  return ignored;
}

describe("Dockerfile", () => {
  test("copies only what is in the repository or made by npm run build:image, and what reaches the build", () => {
    const made = ["dist/image", "node_modules/node-linux-*/bin/node"];
    expect(SOURCES.length).toBeGreaterThan(8);
    for (const source of SOURCES) {
      expect(made.includes(source) || globSync(source).length > 0, source).toBe(true);
      expect(isIgnored(source.replaceAll("*", "x")), source).toBe(false);
    }
    expect(["dist/lab.mjs", "dist/agent.mjs.map", "test/x", "node_modules/pino"].map(isIgnored)).not.toContain(false);
  });

  test("has every role, and every role has a program", () => {
    const loop =
      INSTRUCTIONS.join("\n")
        .match(/for role in ([\w ]+); do ln -s gingham/)?.[1]
        ?.split(" ") ?? [];
    const links = [...loop.map((role) => `gingham-${role}`), "gingham", "kubectl-gingham"];
    expect(links.toSorted()).toEqual(ROLES.toSorted());
    for (const role of ROLES) expect(existsSync(`src/main/${mainOf(role)}.ts`), role).toBe(true);
  });

  test("is of this version, and starts from images by their full names", () => {
    const { version } = JSON.parse(readFileSync("package.json", "utf8")) as { version: string };
    expect(INSTRUCTIONS).toContain(`ARG VERSION=${version}`);
    const bases = INSTRUCTIONS.flatMap((line) => /^FROM (\S+\/\S+)/.exec(line)?.[1] ?? []);
    expect(new Set(bases)).toEqual(
      new Set(["docker.io/library/node:26-bookworm-slim", "docker.io/library/debian:bookworm-slim"]),
    );
  });
});

describe("renderSBOM()", () => {
  test("names npm's and Debian's packages with their package URLs", () => {
    const npm = [{ name: "@a/b", version: "1.0.0", license: "MIT" }];
    const sbom = renderSBOM("2.0.0", npm, parsePackages("libc6 2.36-9+deb12u1 amd64\n"));
    expect(sbom).toMatchObject({
      metadata: { component: { name: "gingham", version: "2.0.0" } },
      components: [
        { purl: "pkg:npm/%40a/b@1.0.0", licenses: [{ expression: "MIT" }] },
        { purl: "pkg:deb/debian/libc6@2.36-9%2Bdeb12u1?arch=amd64&distro=debian-12" },
      ],
    });
  });
});
