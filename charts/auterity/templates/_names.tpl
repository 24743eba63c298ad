{{- define "auterity.name" -}}
{{- if contains "auterity" .Release.Name -}}
{{- .Release.Name | trunc 54 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-auterity" .Release.Name | trunc 54 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{- define "auterity.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "auterity.name" .) -}}
{{- else -}}
{{- required "serviceAccount.name is needed unless serviceAccount.create" .Values.serviceAccount.name -}}
{{- end -}}
{{- end }}

{{- define "auterity.selector" -}}
app.kubernetes.io/name: auterity
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "auterity.labels" -}}
{{ include "auterity.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}
