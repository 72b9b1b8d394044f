import { Link } from '@tanstack/react-router'
import type { Overview } from '../../../api/contract.ts'
import { useApi } from '../api.ts'
import { Empty, Loaded, Page } from '../parts/basics.tsx'
import { TimeSeries } from '../parts/charts.tsx'
import { AlertTable } from './campaigns.tsx'
import { BucketTable } from './buckets.tsx'
import { count, counted, EVIDENCE, when } from '../words.ts'

/** What changed since yesterday: is it new, is it growing, is it an attack. */
export function OverviewPage() {
  const overview = useApi<Overview>('/overview')
  return <Loaded answer={overview}>{(data) => <Content data={data} />}</Loaded>
}

function Content({ data }: { data: Overview }) {
  return (
    <Page title="Overview" sub={<>The 24 hours up to this one, against the day before up to the same minute · as of {when(data.as_of)} UTC</>}>
      {data.lost_messages !== null && (
        <section className="panel attack" role="alert" aria-label="Lost messages">
          <h2>{counted(data.lost_messages.messages, 'message')} lost to the log's retention</h2>
          <p>They came {data.lost_messages.lost_after === null ? '' : `after ${when(data.lost_messages.lost_after)} and `}before {when(data.lost_messages.lost_before)} UTC, and the log deleted them before a worker read them: the workers were away for longer than it keeps. Found {when(data.lost_messages.seen_at)} UTC.</p>
        </section>
      )}
      {data.top_alerts.length > 0 && (
        <section className="panel attack" aria-label="Open alerts">
          <h2>{data.open_alerts === 1 ? 'One alert is open' : `${data.open_alerts} alerts are open`}</h2>
          <AlertTable alerts={data.top_alerts} now={data.as_of} />
        </section>
      )}
      <div className="tiles">
        <Tile label="crashes" change={data.crashes} />
        <Tile label="devices that crashed" change={data.devices} />
        <Tile label="new buckets" change={data.new_buckets} />
        <Tile label="dead letters" change={data.dead_letters} />
        <div className="tile">
          <div className="value">{count(data.unsymbolicated.crashes)}</div>
          <div className="label"><Link to="/symbols">wait for symbols</Link></div>
          <div className="delta">{counted(data.unsymbolicated.modules, 'module')}</div>
        </div>
      </div>
      <div className="grid2">
        <section className="panel">
          <h2>Crashes and devices per hour</h2>
          <TimeSeries from={data.series.from} stepSeconds={data.series.step_seconds} unit="in an hour" lines={[{ name: 'Crashes', values: data.series.crashes, color: 's2', bars: true }, { name: 'Distinct devices', values: data.series.devices, color: 's1' }]} />
        </section>
        <section className="panel">
          <h2>Evidence in the last 24 h</h2>
          <table>
            <thead><tr><th>Class</th><th>Meaning</th><th className="right">Crashes</th></tr></thead>
            <tbody>{EVIDENCE.map((evidence, level) => <tr key={evidence.name}><td>{evidence.name}</td><td>{evidence.words}</td><td className="right">{count(data.by_evidence[level] ?? 0)}</td></tr>).toReversed()}</tbody>
          </table>
        </section>
      </div>
      <section className="panel">
        <h2>Newest buckets</h2>
        {data.newest_buckets.length > 0
          ? <BucketTable buckets={data.newest_buckets} now={data.as_of} />
          : data.crashes.now + data.crashes.before > 0
            ? <Empty>No bucket is new in the last 24 h.</Empty>
            : <Empty command="npm run overrun -- send crash.dmp --device DEVICE_FOLDER">No crash has arrived in the last 48 h. Send one:</Empty>}
      </section>
    </Page>
  )
}

const Tile = ({ label, change }: { label: string; change: { now: number; before: number } }) => (
  <div className="tile">
    <div className="value">{count(change.now)}</div>
    <div className="label">{label}</div>
    <div className="delta">{change.before === change.now ? 'as many as before' : `${count(change.before)} before`}</div>
  </div>
)
