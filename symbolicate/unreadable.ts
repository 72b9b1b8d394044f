import { createHash } from 'node:crypto'
import type { Claims } from '../ingest/contract.ts'
import type { Analysis, AnalysisStatus } from './contract.ts'
import { emptyReport } from './report.ts'
import { RULESET } from './signature/signature.ts'

/**
 * A dump that no parser could read is still a crash: kept, marked and counted. It is grouped by what failed and by the
 * build that sent it, so that a device which only ever sends broken dumps is one line and not a hundred.
 */
export function unreadable(status: AnalysisStatus, reason: string, { contentType, claims }: { contentType: string; claims: Claims }): Analysis {
  const build = claims.buildId ?? claims.swversion ?? claims.swname ?? 'unknown build'
  const text = `${RULESET} | unknown | ${status} | ${build}`
  return {
    status,
    statusReason: reason,
    kind: 'unknown',
    access: 'unknown',
    evidence: {
      class: 0, severity: 'unknown', cwe: [], for: [], against: [], addressClass: 'unknown',
      faultAddress: null, pc: null, sp: null, pattern: null, pcOutsideModules: false,
    },
    signature: {
      ruleset: RULESET, bucket: createHash('sha256').update(text).digest('hex').slice(0, 16), text, title: `unreadable dump: ${status} (${build})`,
      frames: [], notes: [], provisional: true,
    },
    report: { ...emptyReport(contentType, status), notes: [{ slug: status, text: reason }] },
  }
}
