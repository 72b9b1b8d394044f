import { Link, useNavigate, useSearch } from '@tanstack/react-router'
import { useMemo, useState } from 'react'
import type { BucketsPage as BucketsAnswer, BucketSummary } from '../../../api/contract.ts'
import { query, useApi } from '../api.ts'
import { Badge, Empty, EvidenceBadge, Loaded, Page, useKeys } from '../parts/basics.tsx'
import { Sparkline } from '../parts/charts.tsx'
import type { BucketsSearch } from '../router.tsx'
import { ago, count, short } from '../words.ts'

const COLUMNS = [['devices', 'Devices'], ['crashes', 'Crashes'], ['evidence', 'Evidence'], ['first_seen', 'First seen'], ['last_seen', 'Last seen']] as const

/** Devices before crashes: one device in a boot loop makes ten thousand crashes. */
export function BucketsPage() {
  const search = useSearch({ from: '/buckets' })
  const navigate = useNavigate({ from: '/buckets' })
  const answer = useApi<BucketsAnswer>(`/buckets${query({ ...search, limit: 50 })}`)
  const filtered = [search.q, search.kind, search.swversion].some((words) => words !== undefined) || (search.evidence ?? 0) > 0
  const go = (change: Partial<BucketsSearch>) => void navigate({ search: (before) => ({ ...before, cursor: undefined, ...change }) })
  return (
    <Page title="Buckets" sub="Crashes that share a kind and their first frames, over the last 14 days. Most distinct devices first.">
      <form className="filters" role="search" onSubmit={(event) => { event.preventDefault(); go({ q: String(new FormData(event.currentTarget).get('q') ?? '') || undefined }) }}>
        <input type="search" name="q" placeholder="Words in the title or the frames   ( / )" defaultValue={search.q ?? ''} aria-label="Search" />
        <select aria-label="Evidence at least" value={search.evidence ?? 0} onChange={(event) => go({ evidence: Number(event.target.value) })}>
          {[0, 1, 2, 3, 4].map((level) => <option key={level} value={level}>{level === 0 ? 'Any evidence' : `E${level} or more`}</option>)}
        </select>
        <select aria-label="Sort by" value={search.sort ?? 'devices'} onChange={(event) => go({ sort: event.target.value })}>
          {COLUMNS.map(([name, label]) => <option key={name} value={name}>Sort: {label}</option>)}
        </select>
        <button className="action" type="submit">Search</button>
        {(search.q ?? search.kind ?? search.swversion) !== undefined && <button className="action" type="button" onClick={() => go({ q: undefined, kind: undefined, swversion: undefined })}>Clear</button>}
      </form>
      <Loaded answer={answer}>
        {(data) => data.items.length === 0
          ? <div className="panel"><Empty command={filtered ? undefined : 'npm run overrun -- send crash.dmp --device DEVICE_FOLDER'}>{filtered ? 'No bucket matches. Fewer filters find more.' : 'No crash has arrived in the last 14 days. Send one:'}</Empty></div>
          : (
            <>
              <section className="panel"><BucketTable buckets={data.items} now={data.as_of} keys /></section>
              {data.next !== null && <button className="action" type="button" onClick={() => go({ cursor: data.next! })}>Next page</button>}
            </>
          )}
      </Loaded>
    </Page>
  )
}

export function BucketTable({ buckets, now, keys = false }: { buckets: BucketSummary[]; now: string; keys?: boolean }) {
  const navigate = useNavigate()
  const [row, setRow] = useState(-1)
  useKeys(useMemo(() => (keys ? {
    j: () => setRow((at) => Math.min(buckets.length - 1, at + 1)),
    k: () => setRow((at) => Math.max(0, at - 1)),
    Enter: () => { const bucket = buckets[row]; if (bucket !== undefined) void navigate({ to: '/buckets/$id', params: { id: bucket.bucket } }) },
  } : {}) as Record<string, () => void>, [keys, buckets, row, navigate]))
  return (
    <div className="scroll">
      <table>
        <thead><tr><th>Bucket</th><th>Evidence</th><th className="right">Devices</th><th className="right">Crashes</th><th>Trend</th><th>First seen</th><th>Last seen</th></tr></thead>
        <tbody>
          {buckets.map((bucket, index) => (
            <tr key={bucket.bucket} className={index === row ? 'focused' : ''}>
              <td className="wrap-anywhere">
                <Link to="/buckets/$id" params={{ id: bucket.bucket }}><b>{bucket.title}</b></Link>
                <div className="badges muted">
                  <code>{short(bucket.bucket)}</code>
                  <span>{bucket.compartments.join(', ')}</span>
                  <span>{bucket.swversions.slice(0, 4).join(', ')}</span>
                  {bucket.is_new && <Badge tone="warn">new</Badge>}
                  {bucket.alerts.length > 0 && <Badge tone="attack">in a campaign</Badge>}
                  {bucket.provisional && <Badge title="Too few usable frames; it is computed again when symbols arrive">provisional</Badge>}
                  {bucket.triage !== null && bucket.triage.state !== 'new' && <Badge tone={bucket.triage.state === 'resolved' ? 'ok' : ''}>{bucket.triage.state}</Badge>}
                </div>
              </td>
              <td><EvidenceBadge level={bucket.evidence} /></td>
              <td className="right"><b>{count(bucket.devices)}</b>{bucket.verified_devices < bucket.devices && <div className="muted">{count(bucket.verified_devices)} proven</div>}</td>
              <td className="right">{count(bucket.crashes)}</td>
              <td><Sparkline values={bucket.sparkline.crashes} label={`${bucket.crashes} crashes in the range`} /></td>
              <td className="nowrap">{ago(bucket.first_seen, now)}</td>
              <td className="nowrap">{ago(bucket.last_seen, now)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  )
}
