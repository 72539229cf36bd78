/*-------------------------------------------------------------------------
 *
 * settings.h
 *		What something was made with: remembers the values of settings and
 *		tells whether a reload has changed any.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DE_SETTINGS_H
#define DE_SETTINGS_H

#include "utils/palloc.h"

/* One setting: the variable that its value is in. */
typedef struct DeSetting
{
	char *const *text;
	const int  *number;			/* also of enums; NULL = it is a text */
} DeSetting;

#define DE_TEXT_SETTING(variable) \
	{ \
		&(variable), NULL \
	}
#define DE_NUMBER_SETTING(variable) \
	{ \
		NULL, &(variable) \
	}

typedef struct DeSettings DeSettings;

/* Notes the present values of n settings; "list" must last.  Memory below "parent". */
extern DeSettings *de_settings_note(MemoryContext parent, const DeSetting *list, int n);

/* Does any differ from what was noted?  Then the present values are noted instead. */
extern bool de_settings_changed(DeSettings *settings);

#endif							/* DE_SETTINGS_H */
