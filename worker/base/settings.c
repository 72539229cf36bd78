/*-------------------------------------------------------------------------
 *
 * settings.c
 *		What something was made with.
 *
 * A reload assigns all settings, changed or not, and says nothing of which.  A
 * producer that is replaced, or a group that rejoins, for a setting that it
 * does not use would repeat work for nothing; so each notes its own.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "worker/base/settings.h"

/* A value as noted. */
typedef union SettingValue
{
	char	   *text;
	int			number;
} SettingValue;

struct DeSettings
{
	MemoryContext context;		/* of this and all texts */
	const DeSetting *list;
	int			n;
	SettingValue values[FLEXIBLE_ARRAY_MEMBER];
};

static void setting_note(DeSettings *settings, int i);

/*
 * Notes the present values.  Throws out of memory.
 */
DeSettings *
de_settings_note(MemoryContext parent, const DeSetting *list, int n)
{
	DeSettings *settings = MemoryContextAllocZero(
		parent, offsetof(DeSettings, values) + n * sizeof(SettingValue));

	settings->context = parent;
	settings->list = list;
	settings->n = n;
	for (int i = 0; i < n; i++)
		setting_note(settings, i);
	return settings;
}

/*
 * Notes the present value of one.
 */
static void
setting_note(DeSettings *settings, int i)
{
	const DeSetting *setting = &settings->list[i];
	SettingValue *value = &settings->values[i];

	if (setting->number != NULL)
		value->number = *setting->number;
	else
	{
		char	   *former = value->text;

		value->text = MemoryContextStrdup(settings->context, *setting->text);
		if (former != NULL)
			pfree(former);
	}
}

/*
 * Compares with the present values, and notes them where they differ.  Throws
 * out of memory.
 */
bool
de_settings_changed(DeSettings *settings)
{
	bool		changed = false;

	for (int i = 0; i < settings->n; i++)
	{
		const DeSetting *setting = &settings->list[i];

		if (setting->number != NULL ?
				settings->values[i].number == *setting->number :
				strcmp(settings->values[i].text, *setting->text) == 0)
			continue;
		setting_note(settings, i);
		changed = true;
	}
	return changed;
}
