import { Link, useNavigate, useSearch } from '@tanstack/react-router'
import type { DevicesPage as DevicesAnswer, RefusalsPage } from '../../../api/contract.ts'
import { query, useApi } from '../api.ts'
import { Refusals } from '../parts/refusals.tsx'
import { AuthBadge, Badge, Empty, EvidenceBadge, Loaded, Page } from '../parts/basics.tsx'
import type { DevicesSearch } from '../router.tsx'
import { ago, count } from '../words.ts'

export function DevicesPage() {
  const search = useSearch({ from: '/devices' })
  const navigate = useNavigate({ from: '/devices' })
  const answer = useApi<DevicesAnswer>(`/devices${query({ ...search, limit: 100 })}`)
  const go = (change: Partial<DevicesSearch>) => void navigate({ search: (before) => ({ ...before, cursor: undefined, ...change }) })
  return (
    <Page title="Devices" sub="Devices that have crashed, over the last 14 days, and what proves who they are.">
      <form className="filters" role="search" onSubmit={(event) => { event.preventDefault(); go({ q: String(new FormData(event.currentTarget).get('q') ?? '') || undefined }) }}>
        <input type="search" name="q" placeholder="Part of a device’s name   ( / )" defaultValue={search.q ?? ''} aria-label="Search" />
        <select aria-label="Sort by" value={search.sort ?? 'crashes'} onChange={(event) => go({ sort: event.target.value })}>
          <option value="crashes">Sort: crashes</option><option value="last_seen">Sort: last seen</option><option value="evidence">Sort: evidence</option>
        </select>
        <select aria-label="State" value={search.status ?? ''} onChange={(event) => go({ status: event.target.value || undefined })}>
          <option value="">All states</option><option value="pending">Waiting to be admitted</option><option value="disabled">Disabled</option><option value="revoked">Revoked</option>
        </select>
        <button className="action" type="submit">Search</button>
      </form>
      <Loaded answer={answer}>
        {(data) => data.items.length === 0
          ? <div className="panel"><Empty>No device matches.</Empty></div>
          : (
            <>
              <section className="panel scroll">
                <table>
                  <thead><tr><th>Device</th><th>Proof</th><th>Evidence</th><th className="right">Crashes</th><th className="right">Buckets</th><th>Firmware</th><th>Hardware</th><th>Last seen</th></tr></thead>
                  <tbody>
                    {data.items.map((device) => (
                      <tr key={device.device}>
                        <td className="wrap-anywhere"><Link to="/devices/$id" params={{ id: device.device }}><b>{device.device}</b></Link> {device.status !== 'active' && <Badge tone={device.status === 'pending' ? 'warn' : 'crit'}>{device.status}</Badge>} {device.alerts.length > 0 && <Badge tone="attack">in a campaign</Badge>} {device.device_keys > 1 && <Badge tone="warn">{device.device_keys} keys</Badge>}</td>
                        <td><AuthBadge level={device.auth_level} /></td>
                        <td><EvidenceBadge level={device.evidence} /></td>
                        <td className="right">{count(device.crashes)}</td><td className="right">{count(device.buckets)}</td><td>{device.swversion}</td><td>{device.hwmodel}</td><td className="nowrap">{ago(device.last_seen, data.as_of)}</td>
                      </tr>
                    ))}
                  </tbody>
                </table>
              </section>
              {data.next !== null && <button className="action" type="button" onClick={() => go({ cursor: data.next! })}>Next page</button>}
            </>
          )}
      </Loaded>
      <KeptOut />
    </Page>
  )
}

function KeptOut() {
  const answer = useApi<RefusalsPage>('/refusals?limit=20')
  return (
    <Loaded answer={answer}>
      {(data) => data.items.length > 0 && <section className="panel scroll"><h2>Kept out</h2><p className="muted">Reports that came faster than a quota allows, or from devices that were shut out: not stored, but counted, since a storm is a signal.</p><Refusals refusals={data.items} named /></section>}
    </Loaded>
  )
}
