import { Link, useParams } from '@tanstack/react-router'
import type { AlertDetail, AlertEvidence } from '../../../api/contract.ts'
import { useApi, useSay } from '../api.ts'
import { Badge, Command, Facts, Loaded, Page, SeverityBadge } from '../parts/basics.tsx'
import { TimeSeries } from '../parts/charts.tsx'
import { count, DETECTORS, duration, oneIn, when } from '../words.ts'

/** Plain words first, numbers next, always why it may not be an attack. */
export function CampaignPage() {
  const { id } = useParams({ from: '/campaigns/$id' })
  const answer = useApi<AlertDetail>(`/alerts/${encodeURIComponent(id)}`)
  return <Loaded answer={answer}>{(alert) => <Content alert={alert} />}</Loaded>
}

function Content({ alert }: { alert: AlertDetail }) {
  const evidence = alert.evidence
  const span = (Date.parse(alert.last_event) - Date.parse(alert.first_event)) / 1000
  return (
    <Page
      title={alert.title}
      sub={<span className="badges"><SeverityBadge severity={alert.severity} /> <Badge tone="attack" title={DETECTORS[alert.pattern] ?? ''}>{alert.pattern}</Badge> <Badge>{alert.verdict === null ? alert.state : `verdict: ${alert.verdict.verdict}`}</Badge> <span>opened {when(alert.opened_at)} UTC</span></span>}
      actions={<Verdict alert={alert} />}
    >
      <section className="panel attack">
        <p><b>{evidence?.what ?? alert.title}</b></p>
        <Facts rows={[
          ['Devices', count(alert.devices)],
          ['Crashes', count(alert.crashes)],
          ['From', `${when(alert.first_event)} to ${when(alert.last_event)} UTC (${duration(span)})`],
          alert.ln_p === null ? null : ['Chance', `${oneIn(alert.ln_p)}, if these were ordinary faults`],
          alert.bucket === '' ? null : ['Bucket', <Link to="/buckets/$id" params={{ id: alert.bucket }}>{alert.bucket_title ?? alert.bucket}</Link>],
          alert.device === '' ? null : ['Device', <Link to="/devices/$id" params={{ id: alert.device }}>{alert.device}</Link>],
        ]} />
      </section>
      <section className="panel">
        <h2>Distinct devices over time</h2>
        <TimeSeries from={alert.strip.from} stepSeconds={alert.strip.step_seconds} unit={`in ${duration(alert.strip.step_seconds)}`} lines={[{ name: 'Distinct devices', values: alert.strip.devices, color: 'attack', bars: true }, { name: 'Crashes', values: alert.strip.crashes, color: 's1' }]} />
      </section>
      {evidence === null
        ? <section className="panel" role="alert">The evidence of this alert can’t be shown: {alert.evidence_fault}</section>
        : (
          <>
            <div className="grid2">
              <section className="panel"><h2>Speaks for an attack</h2><Points items={evidence.for} none="Nothing beyond the numbers." /></section>
              <section className="panel"><h2>Why it may not be one</h2><Points items={evidence.against} none="No counter-evidence was found." />
                {evidence.unknown.length > 0 && <><h2>Not known</h2><ul className="points">{evidence.unknown.map((line) => <li key={line}>{line}</li>)}</ul></>}
              </section>
            </div>
            <div className="grid2">
              <section className="panel">
                <h2>Facts</h2>
                <table><thead><tr><th>Fact</th><th>Now</th><th>Usual</th></tr></thead><tbody>{evidence.facts.map((fact) => <tr key={fact.name}><td>{fact.name}</td><td className="wrap-anywhere">{fact.value}</td><td>{fact.usual ?? ''}</td></tr>)}</tbody></table>
                {evidence.score_terms !== undefined && evidence.score_terms.length > 0 && (
                  <>
                    <h2 style={{ marginTop: 12 }}>Score {alert.score?.toFixed(1)}: for ranking only</h2>
                    <table><tbody>{evidence.score_terms.map((term) => <tr key={term.name}><td>{term.name}</td><td className="right">{term.value > 0 ? '+' : ''}{term.value.toFixed(1)}</td></tr>)}</tbody></table>
                  </>
                )}
              </section>
              <section className="panel">
                <h2>Do now</h2>
                <ol className="points">{(evidence.do_now ?? []).map((line) => <li key={line}>{line}</li>)}</ol>
                {evidence.false_alarms !== undefined && <p className="muted" style={{ marginTop: 12 }}>{evidence.false_alarms}</p>}
              </section>
            </div>
          </>
        )}
      {evidence !== null && <Affected evidence={evidence} />}
      <section className="panel">
        <h2>The query that fired</h2>
        <p className="muted">Run it again with the same parameters: it gives the same numbers.</p>
        <details><summary>Show the SQL</summary><Command text={alert.query} /><pre>{JSON.stringify(alert.query_params, null, 1)}</pre></details>
      </section>
      <section className="panel">
        <h2>History</h2>
        <table>
          <thead><tr><th>When (UTC)</th><th>State</th><th className="right">Devices</th><th className="right">Crashes</th></tr></thead>
          <tbody>
            {alert.history.map((event) => <tr key={event.hash}><td>{when(event.at)}</td><td>{event.actor}: {event.kind} {String(event.body.verdict ?? '')} {String(event.body.note ?? '')}</td><td /><td /></tr>)}
            {alert.versions.map((version) => <tr key={version.version}><td>{when(version.updated_at)}</td><td>{version.severity}, {version.state}</td><td className="right">{version.devices}</td><td className="right">{version.crashes}</td></tr>)}
          </tbody>
        </table>
      </section>
    </Page>
  )
}

function Affected({ evidence }: { evidence: AlertEvidence }) {
  const { devices = [], firmware = [], sources = [], peers = [], attack = [] } = evidence
  return (
    <section className="panel">
      <h2>Affected</h2>
      <Facts rows={[
        firmware.length === 0 ? null : ['Firmware', firmware.map((item) => `${item.swversion || 'unknown'} (${item.devices})`).join(', ')],
        peers.length === 0 ? null : ['Last heard', peers.map((item) => `${item.peer} (${item.devices})`).join(', ')],
        sources.length === 0 ? null : ['Reported from', sources.map((item) => `${item.source || 'unknown'} (${item.devices})`).join(', ')],
        devices.length === 0 ? null : ['Devices', <span className="badges">{devices.map((device) => <Link key={device} to="/devices/$id" params={{ id: device }}>{device}</Link>)}</span>],
        attack.length === 0 ? null : ['ATT&CK', attack.map((item) => `${item.id} ${item.name}`).join(', ')],
      ]} />
    </section>
  )
}

const Points = ({ items, none }: { items: { slug: string; text: string }[]; none: string }) =>
  items.length === 0 ? <p className="muted">{none}</p> : <ul className="points">{items.map((item) => <li key={item.slug + item.text}>{item.text}</li>)}</ul>

const VERDICTS = [['attack', 'Attack'], ['bug', 'Bug'], ['release', 'Bad release'], ['hardware', 'Hardware'], ['lab', 'Our own lab']] as const

function Verdict({ alert }: { alert: AlertDetail }) {
  const { say, problem } = useSay()
  return (
    <div>
      <div className="badges" role="group" aria-label="Verdict">
        <span className="muted">It was</span>
        {VERDICTS.map(([verdict, label]) => <button key={verdict} className="action" type="button" aria-pressed={alert.verdict?.verdict === verdict} onClick={() => void say(`/alerts/${encodeURIComponent(alert.id)}/verdict`, { verdict, note: '' })}>{label}</button>)}
      </div>
      {problem !== null && <p role="alert">{problem}</p>}
    </div>
  )
}
