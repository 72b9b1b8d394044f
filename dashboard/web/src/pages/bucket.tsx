import { Link, useNavigate, useParams, useSearch } from '@tanstack/react-router'
import { useMemo } from 'react'
import type { BucketCorrelations, BucketDetail, BucketDevices, BucketFirmware, CrashDetail } from '../../../api/contract.ts'
import { useApi, useInFleet, useSay } from '../api.ts'
import { AuthBadge, Badge, Empty, EvidenceBadge, Facts, Loaded, Page, SeverityBadge, Tabs, useKeys } from '../parts/basics.tsx'
import { TimeSeries } from '../parts/charts.tsx'
import { Registers, StackView } from '../parts/stack.tsx'
import type { BucketSearch } from '../router.tsx'
import { ago, count, when } from '../words.ts'

export const BUCKET_TABS = [['stack', 'Stack'], ['threads', 'Threads and registers'], ['modules', 'Modules'], ['devices', 'Devices'], ['firmware', 'Firmware'], ['correlations', 'Over-represented'], ['why', 'Why one bucket'], ['activity', 'Activity']] as const
export type BucketTab = (typeof BUCKET_TABS)[number][0]

export function BucketPage() {
  const { id } = useParams({ from: '/buckets/$id' })
  const answer = useApi<BucketDetail>(`/buckets/${encodeURIComponent(id)}`)
  return <Loaded answer={answer}>{(bucket) => <Content bucket={bucket} />}</Loaded>
}

function Content({ bucket }: { bucket: BucketDetail }) {
  const search = useSearch({ from: '/buckets/$id' })
  const navigate = useNavigate({ from: '/buckets/$id' })
  const tab = search.tab ?? 'stack'
  const crash = search.crash ?? bucket.strongest
  const go = (change: BucketSearch) => void navigate({ search: (before) => ({ ...before, ...change }) })
  return (
    <Page
      title={bucket.title}
      sub={<span className="badges"><code>{bucket.bucket}</code><EvidenceBadge level={bucket.evidence} /><SeverityBadge severity={bucket.severity} />{bucket.cwe.map((cwe) => <Badge key={cwe}>CWE-{cwe}</Badge>)}{bucket.provisional && <Badge tone="warn">provisional</Badge>}</span>}
      actions={<Triage bucket={bucket} />}
    >
      {bucket.asked_for !== bucket.bucket && <div className="panel">Bucket <code>{bucket.asked_for}</code> was merged into this one.</div>}
      {bucket.open_alerts.map((alert) => <div className="panel attack" key={alert.id}>Part of <Link to="/campaigns/$id" params={{ id: alert.id }}><b>{alert.title}</b></Link></div>)}
      <div className="grid2">
        <section className="panel">
          <Facts rows={[
            ['Devices', `${count(bucket.devices)} (${count(bucket.verified_devices)} proven)`],
            ['Crashes', count(bucket.crashes)],
            ['First seen', `${when(bucket.first_seen)} UTC`],
            ['Last seen', `${when(bucket.last_seen)} UTC`],
            ['Firmware', bucket.swversions.join(', ')],
            ['Compartment', bucket.compartments.join(', ')],
          ]} />
          <h2 style={{ marginTop: 12 }}>Evidence</h2>
          <ul className="points">{bucket.evidence_for.map((note) => <li key={note.slug}>{note.text}</li>)}</ul>
          {bucket.evidence_against.length > 0 && <><h2>Against an attack</h2><ul className="points">{bucket.evidence_against.map((note) => <li key={note.slug}>{note.text}</li>)}</ul></>}
        </section>
        <section className="panel">
          <h2>Crashes and devices</h2>
          <TimeSeries from={bucket.series.from} stepSeconds={bucket.series.step_seconds} unit="in a slot" lines={[{ name: 'Crashes', values: bucket.series.crashes, color: 's2', bars: true }, { name: 'Distinct devices', values: bucket.series.devices, color: 's1' }]} />
        </section>
      </div>
      <Tabs names={BUCKET_TABS} value={tab} onChange={(name) => go({ tab: name })} />
      {(tab === 'stack' || tab === 'threads' || tab === 'modules') && <CrashView id={crash} tab={tab} onOther={(other) => go({ crash: other })} />}
      {tab === 'devices' && <Devices bucket={bucket} />}
      {tab === 'firmware' && <Firmware bucket={bucket} />}
      {tab === 'correlations' && <Correlations bucket={bucket} />}
      {tab === 'why' && <Why bucket={bucket} />}
      {tab === 'activity' && <Activity bucket={bucket} />}
    </Page>
  )
}

function CrashView({ id, tab, onOther }: { id: string; tab: 'stack' | 'threads' | 'modules'; onOther: (id: string) => void }) {
  const inFleet = useInFleet()
  const answer = useApi<CrashDetail>(`/crashes/${encodeURIComponent(id)}`)
  const crash = answer.data
  useKeys(useMemo(() => ({
    '[': () => { if (crash?.previous) onOther(crash.previous) },
    ']': () => { if (crash?.next) onOther(crash.next) },
  }), [crash, onOther]))
  return (
    <Loaded answer={answer}>
      {(data) => (
        <>
          <section className="panel">
            <div className="head">
              <div>
                <h2>Crash <code>{data.id}</code></h2>
                <span className="badges"><AuthBadge level={data.auth_level} protection={data.key_protection} /><Badge>{when(data.event_time)} UTC</Badge>{data.flags.map((flag) => <Badge key={flag} tone="warn">{flag}</Badge>)}{data.device_status !== 'active' && <Badge tone="crit">device {data.device_status}</Badge>}</span>
              </div>
              <div className="badges">
                <button className="action" type="button" disabled={data.previous === null} onClick={() => onOther(data.previous!)}>Previous [</button>
                <button className="action" type="button" disabled={data.next === null} onClick={() => onOther(data.next!)}>Next ]</button>
                <a className="button" href={inFleet(`/api/v1/crashes/${data.id}/dump`)} download>Dump</a>
                {data.manifest_length > 0 && <a className="button" href={inFleet(`/api/v1/crashes/${data.id}/manifest`)} download>Manifest</a>}
              </div>
            </div>
            <Facts rows={[
              ['Device', <Link to="/devices/$id" params={{ id: data.device }}>{data.device}</Link>],
              ['Firmware', `${data.swname} ${data.swversion} on ${data.hwmodel || 'unknown hardware'}`],
              ['Where', [data.compartment, data.process, data.layer].filter(Boolean).join(' · ')],
              ['What', `${data.report?.crash_info.type ?? data.kind}${data.fault_address === null ? '' : ` at ${data.fault_address}`} (${data.access === 'unknown' ? 'access unknown' : data.access}, ${data.address_class})`],
              data.last_input_age_ms === null ? null : ['Network input', `${data.last_input_age_ms} ms before${data.peer === '' ? '' : `, from ${data.peer}`}${data.listener_port === null ? '' : `, port ${data.listener_port}`}`],
              data.bootcount === null ? null : ['Boot and report', `boot ${data.bootcount}, report ${data.seq}`],
              data.status === 'ok' ? null : ['Dump', `${data.status}: ${data.status_reason}`],
            ]} />
          </section>
          {data.report === null
            ? <section className="panel"><Empty>No stack: {data.report_fault ?? data.status_reason}</Empty></section>
            : tab === 'stack' ? <Stack crash={data} /> : tab === 'threads' ? <Threads crash={data} /> : <Modules crash={data} />}
        </>
      )}
    </Loaded>
  )
}

function Stack({ crash }: { crash: CrashDetail }) {
  const thread = crash.report!.crashing_thread
  if (thread === null) return <section className="panel"><Empty>The dump does not say which thread crashed.</Empty></section>
  return (
    <section className="panel">
      <h2>Thread {thread.thread_id}{thread.thread_name !== null && ` “${thread.thread_name}”`} crashed</h2>
      <StackView frames={thread.frames} counted={new Set(crash.signature_frames)} omitted={thread.frames_omitted} />
    </section>
  )
}

function Threads({ crash }: { crash: CrashDetail }) {
  const report = crash.report!
  return (
    <>
      <section className="panel"><h2>Registers of the crashing thread</h2><Registers frames={report.crashing_thread?.frames ?? []} /></section>
      {report.threads.map((thread) => (
        <section className="panel" key={thread.threads_index}>
          <details open={thread.threads_index === report.crash_info.crashing_thread}>
            <summary>Thread {thread.thread_id}{thread.thread_name !== null && ` “${thread.thread_name}”`} · {thread.frame_count} frames</summary>
            <StackView frames={thread.frames} counted={new Set()} omitted={thread.frames_omitted} />
          </details>
        </section>
      ))}
    </>
  )
}

function Modules({ crash }: { crash: CrashDetail }) {
  return (
    <section className="panel scroll">
      <table>
        <thead><tr><th>Module</th><th>Loaded at</th><th>Build</th><th>Symbols</th></tr></thead>
        <tbody>
          {crash.report!.modules.map((module) => (
            <tr key={module.base_addr}>
              <td className="wrap-anywhere">{module.filename}</td>
              <td className="mono">{module.base_addr}</td>
              <td className="mono wrap-anywhere">{module.debug_id ?? module.code_id ?? ''}</td>
              <td><Badge tone={module.symbol_status === 'found' ? 'ok' : module.symbol_status === 'not-asked' ? '' : 'warn'} title={module.symbol_reason ?? ''}>{module.symbol_status}</Badge></td>
            </tr>
          ))}
        </tbody>
      </table>
    </section>
  )
}

function Devices({ bucket }: { bucket: BucketDetail }) {
  const answer = useApi<BucketDevices>(`/buckets/${bucket.bucket}/devices?limit=200`)
  return (
    <Loaded answer={answer}>
      {(data) => (
        <section className="panel scroll">
          <table>
            <thead><tr><th>Device</th><th>Proof</th><th className="right">Crashes</th><th>Firmware</th><th>Hardware</th><th>Report came from</th><th>First</th><th>Last</th></tr></thead>
            <tbody>
              {data.items.map((device) => (
                <tr key={device.device}>
                  <td><Link to="/devices/$id" params={{ id: device.device }}>{device.device}</Link> {device.status !== 'active' && <Badge tone="crit">{device.status}</Badge>}</td>
                  <td><AuthBadge level={device.auth_level} protection={device.key_protection} /></td>
                  <td className="right">{count(device.crashes)}</td><td>{device.swversion}</td><td>{device.hwmodel}</td><td>{device.source}</td>
                  <td className="nowrap">{when(device.first_seen)}</td><td className="nowrap">{when(device.last_seen)}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </section>
      )}
    </Loaded>
  )
}

function Firmware({ bucket }: { bucket: BucketDetail }) {
  const answer = useApi<BucketFirmware>(`/buckets/${bucket.bucket}/firmware`)
  return (
    <Loaded answer={answer}>
      {(data) => (
        <section className="panel scroll">
          <table>
            <thead><tr><th>Version</th><th className="right">Devices hit</th><th className="right">Devices seen on it</th><th className="right">Crashes</th><th>First</th><th>Last</th><th /></tr></thead>
            <tbody>
              {data.items.map((item) => (
                <tr key={item.swversion}><td>{item.swversion || 'unknown'}</td><td className="right"><b>{count(item.devices)}</b></td><td className="right">{count(item.active_devices)}</td><td className="right">{count(item.crashes)}</td><td>{when(item.first_seen)}</td><td>{ago(item.last_seen, data.as_of)}</td><td>{item.fixed && <Badge tone="ok">fixed in it</Badge>}</td></tr>
              ))}
            </tbody>
          </table>
        </section>
      )}
    </Loaded>
  )
}

function Correlations({ bucket }: { bucket: BucketDetail }) {
  const answer = useApi<BucketCorrelations>(`/buckets/${bucket.bucket}/correlations`)
  const percent = (share: number) => `${Math.round(share * 100)} %`
  return (
    <Loaded answer={answer}>
      {(data) => (
        <section className="panel scroll">
          <table>
            <thead><tr><th>What</th><th>Value</th><th className="right">Here</th><th className="right">Overall</th><th className="right">Times as often</th></tr></thead>
            <tbody>{data.items.map((item) => <tr key={item.key + item.value}><td>{item.key}</td><td className="wrap-anywhere">{item.value || 'unknown'}</td><td className="right">{percent(item.share)}</td><td className="right">{percent(item.overall_share)}</td><td className="right">{item.lift.toFixed(1)}</td></tr>)}</tbody>
          </table>
        </section>
      )}
    </Loaded>
  )
}

function Why({ bucket }: { bucket: BucketDetail }) {
  return (
    <section className="panel">
      <h2>Signature, rule set {bucket.signature.ruleset}</h2>
      <pre>{bucket.signature.text}</pre>
      <h2 style={{ marginTop: 12 }}>What the rules changed</h2>
      {bucket.signature.notes.length === 0 ? <p className="muted">Nothing: the frames were counted as they are.</p> : (
        <table>
          <thead><tr><th>Rule</th><th>From</th><th>To</th><th>Why</th></tr></thead>
          <tbody>{bucket.signature.notes.map((note, index) => <tr key={index}><td><code>{note.rule}</code></td><td className="mono wrap-anywhere">{note.from}</td><td className="mono wrap-anywhere">{note.to}</td><td>{note.why}</td></tr>)}</tbody>
        </table>
      )}
    </section>
  )
}

function Activity({ bucket }: { bucket: BucketDetail }) {
  if (bucket.history.length === 0) return <section className="panel"><Empty>Nobody has said anything about this bucket yet. Set its state above.</Empty></section>
  return (
    <section className="panel">
      <table><thead><tr><th>When (UTC)</th><th>Who</th><th>What</th></tr></thead>
        <tbody>{bucket.history.map((event) => <tr key={event.hash}><td>{when(event.at)}</td><td>{event.actor}</td><td className="wrap-anywhere">{event.kind} <code>{JSON.stringify(event.body)}</code></td></tr>)}</tbody>
      </table>
    </section>
  )
}

const STATES = [['new', 'New'], ['investigating', 'Investigating'], ['not-a-vulnerability', 'Not a vulnerability'], ['vulnerability', 'Vulnerability'], ['actively-exploited', 'Actively exploited'], ['resolved', 'Resolved'], ['muted', 'Muted']] as const

function Triage({ bucket }: { bucket: BucketDetail }) {
  const { say, problem } = useSay()
  const triage = (state: string) => {
    const fixedIn = state === 'resolved' ? window.prompt('Fixed in which firmware version? (may stay empty)') : null
    void say(`/buckets/${bucket.bucket}/triage`, { state, note: '', ...(fixedIn ? { fixed_in: fixedIn } : {}) })
  }
  return (
    <div>
      <label>State <select value={bucket.triage?.state ?? 'new'} onChange={(event) => triage(event.target.value)}>{STATES.map(([state, label]) => <option key={state} value={state}>{label}</option>)}</select></label>
      {problem !== null && <p role="alert">{problem}</p>}
    </div>
  )
}
