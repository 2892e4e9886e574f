// SPDX-License-Identifier: Apache-2.0
import { beforeEach, describe, expect, it } from "vitest";
import { IP_POOLS } from "../../crds/ip-pool.ts";
import { IP_RESERVATIONS, projectReservation } from "../../crds/ip-reservation.ts";
import { IPAM_BLOCKS } from "../../crds/ipam-block.ts";
import { blockOf, podAttributes } from "../../ipam/gc/fake-cluster.ts";
import { MemoryClient } from "../../kube/memory-client.ts";
import { parseCIDR } from "../../net/cidr.ts";
import { type Ran, runGingham } from "../fake-terminal.ts";
import { reservationOf } from "./reserve.ts";

let client: MemoryClient;
const run = async (line: string): Promise<Ran> => await runGingham(`ipam reserve ${line}`, { client });

beforeEach(() => {
  client = new MemoryClient();
  const head = { apiVersion: "crd.projectcalico.org/v1", kind: "IPPool", metadata: { name: "main" } };
  client.seed(IP_POOLS, { ...head, spec: { cidr: "10.0.0.0/24" } });
  const holders = ["db-0", "db-1", "web"].map((pod) => ({
    handleID: `net.${pod}`,
    attributes: podAttributes("node-a", pod),
  }));
  const { metadata, ...block } = blockOf("10.0.0.0/29", "node-a", holders);
  client.seed(IPAM_BLOCKS, { ...block, metadata: { name: metadata.name } });
});

describe("gingham ipam reserve", () => {
  it("reserves addresses and networks for nobody", async () => {
    expect(await run("10.0.0.5 10.0.0.17/28 --name keep")).toEqual({
      status: 0,
      stdout: "IPReservation keep reserves 10.0.0.5, 10.0.0.16/28\n",
      stderr: "",
    });
    expect((await client.get(IP_RESERVATIONS, "keep")).spec.reservedCIDRs).toEqual(["10.0.0.5", "10.0.0.16/28"]);
  });

  it("reserves them for a StatefulSet, whose own pods may have them already", async () => {
    const { status, stdout } = await run("10.0.0.0/31 --name db --for statefulset/default/db --first-ordinal 3");
    expect([status, stdout]).toEqual([0, "IPReservation db reserves 10.0.0.0/31 for StatefulSet default/db\n"]);
    expect(projectReservation(await client.get(IP_RESERVATIONS, "db")).owner).toEqual({
      kind: "StatefulSet",
      namespace: "default",
      name: "db",
      firstOrdinal: "3",
      unreadable: [],
    });
  });

  it("keeps an owner's name that is too long for a label in the annotation", () => {
    const owner = { kind: "Pod", namespace: "default", name: "x".repeat(64) } as const;
    const reservation = reservationOf("r", [parseCIDR("10.0.0.5/32")], owner);
    expect(Object.values(reservation.metadata.labels ?? {})).toEqual(["Pod", "default"]);
    expect(projectReservation(reservation).owner?.name).toBe(owner.name);
  });

  it.each([
    ["outside all pools", "192.0.2.1 --name x", "192.0.2.1 lies in no IPPool (there are: 10.0.0.0/24)"],
    ["wider than a pool", "10.0.0.0/23 --name x", "10.0.0.0/23 lies in no IPPool"],
    ["in use", "10.0.0.2 --name x", "in use: 10.0.0.2 by pod default/web"],
    [
      "in use by another than its owner",
      "10.0.0.0/30 --name x --for sts/default/db",
      "in use: 10.0.0.2 by pod default/web",
    ],
    ["of another namespace's owner", "10.0.0.0 --name x --for pod/other/db-0", "in use: 10.0.0.0 by pod default/db-0"],
    ["that are named twice", "10.0.0.16/30 10.0.0.17 --name x --for sts/default/db", "10.0.0.17 overlaps 10.0.0.16/30"],
    ["reserved already", "10.0.0.0/24 --name x --for pod/a/b", "is reserved by IPReservation old already"],
  ])("refuses addresses %s, unless forced", async (_why, args, reason) => {
    client.seed(IP_RESERVATIONS, reservationOf("old", [parseCIDR("10.0.0.200/32")], undefined));
    const { status, stderr } = await run(args);
    expect(status).toBe(1);
    expect(stderr).toContain("gingham: Nothing was reserved. ");
    expect(stderr).toContain(reason);
    expect((await client.list(IP_RESERVATIONS)).items).toHaveLength(1);
    expect((await run(`${args} --force`)).status).toBe(0);
  });

  it("refuses a name that is taken", async () => {
    await run("10.0.0.5 --name x");
    const { status, stderr } = await run("10.0.0.6 --name x");
    expect([status, stderr]).toEqual([1, expect.stringContaining("first: gingham ipam reserve --remove x\n")]);
  });

  it.each([
    [""],
    ["10.0.0.5"],
    ["10.0.0.300 --name x"],
    ["10.0.0.5 --name x --list"],
    ["10.0.0.5 --name x --for deployment/a/b"],
    ["10.0.0.5 --name x --for pod/a"],
    ["10.0.0.5 --name x --for pod/a/b --first-ordinal 1"],
    ["10.0.0.5 --name x --first-ordinal 1"],
    ["10.0.0.5 --name x --for sts/a/b --first-ordinal -1"],
  ])("refuses %j as wrong usage", async (args) => {
    expect((await runGingham(`ipam reserve ${args}`.trim(), { client })).status).toBe(2);
    expect(client.calls.filter(({ verb }) => verb === "create")).toEqual([]);
  });

  it("lists reservations with those who use their addresses, and removes one", async () => {
    expect((await run("--list")).stdout).toBe("There is no IPReservation.\n");
    await run("10.0.0.0/31 --name db --for sts/default/db");
    await run("10.0.0.6 --name a");
    expect((await run("--list")).stdout).toBe(`\
NAME   ADDRESSES     FOR                      IN USE
a      10.0.0.6                                    0
db     10.0.0.0/31   StatefulSet default/db        2
`);
    expect((await run("--remove db")).stdout).toContain("IPReservation db is gone");
    expect(await run("--remove db")).toMatchObject({
      status: 1,
      stderr: expect.stringContaining("There is no IPReservation db") as string,
    });
  });
});
