import type { MissingSymbols } from '../../../api/contract.ts'
import { useApi } from '../api.ts'
import { Command, Empty, Loaded, Page } from '../parts/basics.tsx'
import { counted, when } from '../words.ts'

/** Builds without symbols, those that hold up most crashes first, each with the command that ends it. */
export function SymbolsPage() {
  const answer = useApi<MissingSymbols>('/symbols/missing')
  return (
    <Page title="Symbols" sub="Missing symbols, by the crashes that wait for them. When they arrive, those crashes are symbolicated again and their buckets follow.">
      <Loaded answer={answer}>
        {(data) => data.items.length === 0
          ? <div className="panel"><Empty command="npm run overrun -- symbols upload build/">Every module of every crash has its symbols. New builds:</Empty></div>
          : data.items.map((item) => (
            <section className="panel" key={item.debug_file + item.debug_id}>
              <h2 className="wrap-anywhere">{item.debug_file || 'unnamed module'} <code>{item.debug_id || item.code_id}</code></h2>
              <p>{counted(item.crashes, 'crash')} on {counted(item.devices, 'device')} in {counted(item.buckets, 'bucket')} wait · firmware {item.swversions.join(', ') || 'unknown'} · since {when(item.first_seen)} UTC</p>
              <Command text={`npm run overrun -- symbols upload PATH_TO_${item.debug_file.replace(/[^A-Za-z0-9._+-]/g, '_')}.sym`} />
            </section>
          ))}
      </Loaded>
    </Page>
  )
}
