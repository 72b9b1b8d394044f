import { useEffect, useRef, useState } from 'react'
import UPlot from 'uplot'
import 'uplot/dist/uPlot.min.css'
import { count, when } from '../words.ts'

/** Crashes per slot as bars, zeros included. */
export function Sparkline({ values, label }: { values: number[]; label: string }) {
  const top = Math.max(1, ...values)
  const width = 120 / Math.max(1, values.length)
  return (
    <svg className="spark" viewBox="0 0 120 24" preserveAspectRatio="none" role="img" aria-label={label}>
      {values.map((value, index) => value > 0 && <rect key={index} x={index * width} width={Math.max(0.8, width - 0.4)} y={24 - (value / top) * 23} height={(value / top) * 23} />)}
    </svg>
  )
}

export interface Line { name: string; values: number[]; color: 's1' | 's2' | 'attack'; bars?: boolean }

/** Counts have no fractions. */
const WHOLE_STEPS = Array.from({ length: 10 }, (_, power) => [1, 2, 5].map((step) => step * 10 ** power)).flat()

/** Labels of the time axis, UTC: the hour, with its date where a day begins; days alone where the axis is long. */
function timeLabels(_: UPlot, ticks: number[], __: number, ___: number, step: number): string[] {
  return ticks.map((tick, index) => {
    const iso = new Date(tick * 1000).toISOString()
    if (step >= 86_400) return iso.slice(5, 10)
    return index === 0 || iso.slice(11, 16) === '00:00' ? `${iso.slice(11, 16)}\n${iso.slice(5, 10)}` : iso.slice(11, 16)
  })
}

/** A zero-filled time series; the table below it says the same in numbers. */
export function TimeSeries({ from, stepSeconds, lines, unit }: { from: string; stepSeconds: number; lines: Line[]; unit: string }) {
  const box = useRef<HTMLDivElement>(null)
  const [asTable, setAsTable] = useState(false)
  const start = Date.parse(from) / 1000
  const length = lines[0]?.values.length ?? 0
  const content = JSON.stringify([from, stepSeconds, lines])

  useEffect(() => {
    const element = box.current
    if (element === null || length === 0) return
    const color = (name: string) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim()
    // Canvas knows no light-dark(): resolve the token through a real element.
    const resolve = (name: string) => {
      element.style.color = color(name)
      const value = getComputedStyle(element).color
      element.style.color = ''
      return value
    }
    const bars = UPlot.paths.bars?.({ size: [0.8, 40] })
    const axis = { stroke: resolve('fg-muted'), grid: { stroke: resolve('line'), width: 1 }, ticks: { stroke: resolve('line') } }
    const chart = new UPlot(
      {
        width: element.clientWidth,
        height: 200,
        tzDate: (ts) => UPlot.tzDate(new Date(ts * 1000), 'Etc/UTC'),
        scales: { y: { range: (_, __, max) => [0, Math.max(1, max * 1.1)] } },
        axes: [{ ...axis, values: timeLabels }, { ...axis, size: 44, incrs: WHOLE_STEPS }],
        series: [{ label: 'UTC', value: (_, at) => (at === null ? '' : when(new Date(at * 1000).toISOString())) }, ...lines.map((line) => ({ label: line.name, stroke: resolve(line.color), width: 1.5, points: { show: false }, ...(line.bars && bars ? { paths: bars, fill: resolve(line.color) } : {}) }))],
        legend: { live: true },
      },
      [Array.from({ length }, (_, index) => start + index * stepSeconds), ...lines.map((line) => line.values)],
      element,
    )
    const observer = new ResizeObserver(() => chart.setSize({ width: element.clientWidth, height: 200 }))
    observer.observe(element)
    return () => {
      observer.disconnect()
      chart.destroy()
    }
    // `content` stands for from, stepSeconds and lines: the chart is drawn again only when they differ.
  }, [content])

  const peak = Math.max(0, ...(lines[0]?.values ?? []))
  const at = (lines[0]?.values ?? []).indexOf(peak)
  const summary = length === 0 ? 'No data.' : `${lines[0]?.name}: at most ${count(peak)} ${unit}, at ${when(new Date((start + Math.max(0, at) * stepSeconds) * 1000).toISOString())} UTC.`
  return (
    <figure style={{ margin: 0 }}>
      {!asTable && <div ref={box} className="chart" role="img" aria-label={summary} />}
      {asTable && (
        <div className="scroll" style={{ maxHeight: 240, overflowY: 'auto' }}>
          <table>
            <thead><tr><th>From (UTC)</th>{lines.map((line) => <th key={line.name} className="right">{line.name}</th>)}</tr></thead>
            <tbody>
              {Array.from({ length }, (_, index) => (
                <tr key={index}><td>{when(new Date((start + index * stepSeconds) * 1000).toISOString())}</td>{lines.map((line) => <td key={line.name} className="right">{line.values[index]}</td>)}</tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
      <figcaption className="muted">{summary} <button className="action" type="button" onClick={() => setAsTable(!asTable)}>{asTable ? 'View as chart' : 'View as table'}</button></figcaption>
    </figure>
  )
}
