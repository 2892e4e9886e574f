// SPDX-License-Identifier: Apache-2.0

/**
 * Begins the names of all objects that the contract suites of this process make, so that they can run on a cluster that
 * is in use, and so that what they left can be found. Lower-case letters, digits and dashes.
 */
export const TEST_PREFIX: string = `gingham-test-${process.pid}-${Date.now().toString(36)}-`;
