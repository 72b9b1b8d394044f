import { Link } from '@tanstack/react-router'
import type { StoredRefusal } from '../../../api/contract.ts'
import { count, short, when } from '../words.ts'

const WHY = {
  'quota-device': 'quota of the device', 'quota-issuer': 'quota of the issuer', 'quota-fleet': 'quota of the fleet',
  'device-revoked': 'the device is revoked', 'device-disabled': 'the device is disabled', 'issuer-disabled': 'its issuer is disabled', 'certificate-revoked': 'its certificate is revoked',
} as const

/** What was refused is a signal too: how many reports, and whether they were one crash or many. */
export function Refusals({ refusals, named = false }: { refusals: readonly StoredRefusal[]; named?: boolean }) {
  return (
    <table>
      <thead><tr><th>From (UTC)</th><th>To</th>{named && <th>Device</th>}<th>Why</th><th className="right">Reports</th><th>Dumps</th></tr></thead>
      <tbody>
        {refusals.map((refusal) => (
          <tr key={refusal.id}>
            <td className="nowrap">{when(refusal.first_at)}</td><td className="nowrap">{when(refusal.last_at)}</td>
            {named && <td className="wrap-anywhere">{refusal.device === '' ? 'many others' : <Link to="/devices/$id" params={{ id: refusal.device }}>{refusal.device}</Link>}</td>}
            <td>{WHY[refusal.slug]}</td><td className="right">{count(refusal.reports)}</td>
            <td>{refusal.digests.slice(0, 4).map(({ digest, reports }) => <code key={digest} title={digest}>{short(digest)} × {count(reports)} </code>)}{refusal.digests.length > 4 && `and ${refusal.digests.length - 4} more`}</td>
          </tr>
        ))}
      </tbody>
    </table>
  )
}
