// Prints how many tests of a vitest report passed and failed, and names on the standard error what else there is.
import { readFileSync } from "node:fs";

const report = JSON.parse(readFileSync(process.argv[2], "utf8"));
for (const { name, status, message, assertionResults } of report.testResults) {
  for (const test of assertionResults) {
    if (test.status !== "passed" && test.status !== "failed") console.error(`${test.status}: ${name}: ${test.fullName}`);
  }
  // A file that cannot be loaded has no tests to fail.
  if (status === "failed" && assertionResults.length === 0) console.error(`failed: ${name}: ${message}`);
}
console.log(report.numPassedTests, report.numFailedTests);
