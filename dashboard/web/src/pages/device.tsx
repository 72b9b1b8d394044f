import { Link, useParams } from '@tanstack/react-router'
import type { DeviceDetail } from '../../../api/contract.ts'
import { useApi, useSay } from '../api.ts'
import { Refusals } from '../parts/refusals.tsx'
import { AuthBadge, Badge, EvidenceBadge, Loaded, Page } from '../parts/basics.tsx'
import { count, short, when } from '../words.ts'

/** One device: its crashes and firmware on one time axis, its credentials, and the way to shut it out. */
export function DevicePage() {
  const { id } = useParams({ from: '/devices/$id' })
  const answer = useApi<DeviceDetail>(`/devices/${encodeURIComponent(id)}`)
  return <Loaded answer={answer}>{(device) => <Content device={device} />}</Loaded>
}

function Content({ device }: { device: DeviceDetail }) {
  return (
    <Page
      title={device.device}
      sub={<span className="badges"><AuthBadge level={device.auth_level} protection={device.credentials[0]?.key_protection ?? ''} /><Badge tone={device.registry.status === 'active' ? 'ok' : device.registry.status === 'pending' ? 'warn' : 'crit'}>{device.registry.status}</Badge><EvidenceBadge level={device.evidence} /><span>{device.hwmodel} · firmware {device.swversion || 'unknown'}</span></span>}
      actions={<Status device={device} />}
    >
      {device.open_alerts.map((alert) => <div className="panel attack" key={alert.id}>Part of <Link to="/campaigns/$id" params={{ id: alert.id }}><b>{alert.title}</b></Link></div>)}
      <section className="panel"><h2>Timeline</h2><Timeline device={device} /></section>
      <section className="panel scroll">
        <h2>Crashes</h2>
        <table>
          <thead><tr><th>When (UTC)</th><th>Bucket</th><th>Evidence</th><th>Firmware</th><th>Boot, report</th><th>Standing</th></tr></thead>
          <tbody>
            {device.timeline.map((crash) => (
              <tr key={crash.id}>
                <td className="nowrap">{when(crash.event_time)}</td>
                <td className="wrap-anywhere"><Link to="/buckets/$id" params={{ id: crash.bucket }} search={{ crash: crash.id }}>{crash.title}</Link></td>
                <td><EvidenceBadge level={crash.evidence} /></td><td>{crash.swversion}</td><td className="nowrap">{crash.bootcount ?? '—'}, {crash.seq ?? '—'}</td>
                <td><Badge tone={crash.standing === 'counted' ? '' : 'warn'}>{crash.standing}</Badge></td>
              </tr>
            ))}
          </tbody>
        </table>
      </section>
      {device.refusals.length > 0 && <section className="panel scroll"><h2>Kept out</h2><Refusals refusals={device.refusals} /></section>}
      <section className="panel scroll">
        <h2>Credentials</h2>
        <table>
          <thead><tr><th>Key</th><th>Issuer</th><th>Kept in</th><th className="right">Crashes</th><th>First</th><th>Last</th><th /></tr></thead>
          <tbody>
            {device.credentials.map((key) => (
              <tr key={key.device_key}>
                <td><code title={key.device_key}>{short(key.device_key) || 'none'}</code></td><td className="wrap-anywhere">{key.issuer}</td><td>{key.key_protection}</td><td className="right">{count(key.crashes)}</td><td>{when(key.first_seen)}</td><td>{when(key.last_seen)}</td>
                <td>{key.shared_with.length > 0 && <Badge tone="crit" title={key.shared_with.join(', ')}>same key on {key.shared_with.length} other devices</Badge>}{key.flags.map((flag) => <Badge key={flag} tone="warn">{flag}</Badge>)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </section>
    </Page>
  )
}

/** One lane for firmware, one for crashes; the table below says the same in words. */
function Timeline({ device }: { device: DeviceDetail }) {
  const from = Date.parse(device.first_seen)
  const span = Math.max(1, Date.parse(device.last_seen) - from)
  const x = (iso: string) => 8 + (984 * (Date.parse(iso) - from)) / span
  return (
    <div className="timeline">
      <div className="lane"><span className="muted">Crashes</span>
        <svg viewBox="0 0 1000 22" preserveAspectRatio="none" role="img" aria-label={`${device.timeline.length} crashes from ${when(device.first_seen)} to ${when(device.last_seen)}`}>
          {device.timeline.map((crash) => <rect key={crash.id} x={x(crash.event_time)} y={3} width={3} height={16} fill={crash.evidence >= 3 ? 'var(--attack)' : 'var(--s1)'}><title>{`${when(crash.event_time)} ${crash.title}`}</title></rect>)}
        </svg>
      </div>
      <div className="lane"><span className="muted">Firmware</span>
        <svg viewBox="0 0 1000 22" preserveAspectRatio="none" role="img" aria-label={device.versions.map((version) => version.swversion).join(', ')}>
          {device.versions.map((version, index) => <rect key={version.swversion} x={x(version.first_seen)} y={6} width={Math.max(3, x(version.last_seen) - x(version.first_seen))} height={10} fill={index % 2 === 0 ? 'var(--s2)' : 'var(--fg-muted)'}><title>{version.swversion}</title></rect>)}
        </svg>
      </div>
      <div className="muted">{when(device.first_seen)} to {when(device.last_seen)} UTC · {device.versions.map((version) => version.swversion || 'unknown').join(' → ')}</div>
    </div>
  )
}

function Status({ device }: { device: DeviceDetail }) {
  const { say, problem } = useSay()
  const set = (status: string) => {
    const reason = window.prompt(`Why should ${device.device} be ${status}? The reason is kept in the audit log.`)
    if (reason !== null) void say(`/devices/${encodeURIComponent(device.device)}/status`, { status, reason })
  }
  const rebase = () => {
    const reason = window.prompt(`Did the boot count of ${device.device} begin again, as after a factory reset? Say why; the reason is kept in the audit log.`)
    if (reason !== null) void say(`/devices/${encodeURIComponent(device.device)}/rebase`, { reason })
  }
  return (
    <div>
      <div className="badges">
        {device.registry.status !== 'active' && <button className="action" type="button" onClick={() => set('active')}>{device.registry.status === 'pending' ? 'Admit' : 'Let it report again'}</button>}
        {device.registry.status === 'active' && <button className="action" type="button" onClick={() => set('disabled')}>Disable</button>}
        {device.registry.status !== 'revoked' && <button className="action" type="button" onClick={() => set('revoked')}>Revoke</button>}
        <button className="action" type="button" onClick={rebase} title="Its counters may be used anew from now on">Boot count was reset</button>
      </div>
      {device.registry.reason !== '' && <p className="muted">{device.registry.reason}</p>}
      {problem !== null && <p role="alert">{problem}</p>}
    </div>
  )
}
