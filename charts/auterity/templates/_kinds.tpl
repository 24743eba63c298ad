{{- /* The kinds that are switched off, as YAML: their names and their plurals. */ -}}
{{- define "auterity.switchedOff" -}}
{{- $found := dict -}}
{{- if .Values.kinds.disabled -}}
{{- range $path, $_ := .Files.Glob "files/crds/*.yaml" -}}
{{- $names := ($.Files.Get $path | fromYaml).spec.names -}}
{{- if and (has $names.kind $.Values.kinds.disabled) (not (hasSuffix "Connection" $names.kind)) -}}
{{- $_ := set $found $names.kind $names.plural -}}
{{- end -}}
{{- end -}}
{{- range .Values.kinds.disabled -}}
{{- if not (hasKey $found .) -}}
{{- fail (printf "kinds.disabled: no kind of integration is called %s" .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toYaml $found -}}
{{- end }}

{{- /* RBAC rules without the kinds that are switched off: (list CONTEXT RULES). */ -}}
{{- define "auterity.rules" -}}
{{- $off := include "auterity.switchedOff" (first .) | fromYaml | values -}}
{{- $rules := list -}}
{{- range last . -}}
{{- $resources := list -}}
{{- range .resources -}}
{{- if not (has (splitList "/" . | first) $off) }}{{ $resources = append $resources . }}{{ end -}}
{{- end -}}
{{- if $resources }}{{ $rules = append $rules (merge (dict "resources" $resources) .) }}{{ end -}}
{{- end -}}
{{- toYaml $rules -}}
{{- end }}
